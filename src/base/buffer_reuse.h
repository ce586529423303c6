// Large buffers that wait to be used again.
//
//   const BufferReuse reuse(most_bytes);
//   for (...) { Tensor codes = Tensor::allocate(...); ... }   // the memory of the last ones
//
// While one lives, the memory of large buffers that end is kept, of the whole process and at most
// that many bytes, for the next that take nearly as much. The kernel clears what it gives, and
// under a virtual machine the host finds memory for it first: together up to 1 s per GB
// (Firecracker, Zen 4), as long as making 4-bit codes of 1 GB takes. What waits is given back at
// the end.
#pragma once

#include <cstdint>

namespace mezzotint {

class BufferReuse {
 public:
  explicit BufferReuse(int64_t most_bytes);
  ~BufferReuse();
  BufferReuse(const BufferReuse&) = delete;
  BufferReuse& operator=(const BufferReuse&) = delete;

 private:
  const int64_t most_bytes_;
};

}  // namespace mezzotint
