// Scratch memory that calls take and give back, so that a denoising loop allocates only once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "mezzotint/tensor.h"

namespace mezzotint {

// A piece of scratch, returned to its Workspace on destruction. 64-byte aligned, uninitialised.
class Scratch;

class Workspace {
 public:
  Scratch take(int64_t bytes);  // thread-safe; throws Error(kResources)

 private:
  friend class Scratch;
  void give_back(Buffer buffer) noexcept;
  std::mutex mutex_;
  std::vector<Buffer> free_;
};

class Scratch {
 public:
  Scratch(Workspace* owner, Buffer buffer) : owner_(owner), buffer_(std::move(buffer)) {}
  ~Scratch();
  Scratch(Scratch&& other) noexcept;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(buffer_.mutable_data());
  }
  int64_t size() const noexcept { return buffer_.size(); }

 private:
  Workspace* owner_;
  Buffer buffer_;
};

}  // namespace mezzotint
