#include <sys/mman.h>

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

#if defined(__has_feature)
#define MZ_HAS_FEATURE(x) __has_feature(x)
#else
#define MZ_HAS_FEATURE(x) 0
#endif

namespace mezzotint {
namespace {

constexpr int64_t kAlignment = 64;  // one cache line, one zmm register
constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = int64_t{2} << 20;
// 1 TiB. No single tensor is larger; the sanitizers end the process on more instead of failing.
constexpr int64_t kMaxBytes = int64_t{1} << 40;

// AddressSanitizer guards the ends of what malloc gives, not of what mmap gives.
#if defined(__SANITIZE_ADDRESS__) || MZ_HAS_FEATURE(address_sanitizer)
constexpr int64_t kMapFrom = kMaxBytes;
#else
constexpr int64_t kMapFrom = kHugePage;
#endif

[[noreturn]] void out_of_memory(int64_t bytes) {
  throw Error(ErrorCode::kResources, "not enough memory",
              {.expected = std::to_string(bytes) + " bytes"});
}

std::shared_ptr<void> allocate_small(int64_t bytes) {
  const int64_t rounded = (bytes / kAlignment + 1) * kAlignment;
  void* data = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (data == nullptr) out_of_memory(bytes);
  return {data, [](void* p) { std::free(p); }};
}

// Aligned to 2 MiB and marked for huge pages: a GEMM over a large weight then misses the TLB 512
// times less often. The end that fills none stays on small ones: 16 MiB and a header would else
// take 18.
std::shared_ptr<void> allocate_large(int64_t bytes) {
  const int64_t rounded = (bytes + kPage - 1) / kPage * kPage;
  const int64_t mapped = rounded + kHugePage;
  void* base = ::mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) out_of_memory(bytes);
  const int64_t skip =
      (kHugePage - static_cast<int64_t>(reinterpret_cast<uintptr_t>(base) % kHugePage)) % kHugePage;
  std::byte* data = static_cast<std::byte*>(base) + skip;
  if (skip > 0) ::munmap(base, static_cast<size_t>(skip));
  const int64_t tail = mapped - skip - rounded;
  if (tail > 0) ::munmap(data + rounded, static_cast<size_t>(tail));
  // A wish; failure is harmless.
  ::madvise(data, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
  const auto length = static_cast<size_t>(rounded);
  return {data, [length](void* p) { ::munmap(p, length); }};
}

}  // namespace

Buffer Buffer::allocate(int64_t bytes) {
  MZ_CHECK(bytes >= 0);
  if (bytes > kMaxBytes) out_of_memory(bytes);
  const std::shared_ptr<void> memory =
      bytes >= kMapFrom ? allocate_large(bytes) : allocate_small(bytes);
  Buffer buffer;
  buffer.data_ = static_cast<std::byte*>(memory.get());
  buffer.size_ = bytes;
  buffer.owned_ = true;
  buffer.keep_alive_ = memory;
  return buffer;
}

Buffer Buffer::borrow(void* data, int64_t bytes, std::shared_ptr<const void> keep_alive) {
  MZ_CHECK(bytes == 0 || (bytes > 0 && data != nullptr));
  Buffer buffer;
  buffer.keep_alive_ = std::move(keep_alive);
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.size_ = bytes;
  return buffer;
}

Buffer Buffer::borrow_const(const void* data, int64_t bytes,
                            std::shared_ptr<const void> keep_alive) {
  // The cast is undone by mutable_data(), which refuses read-only bytes.
  Buffer buffer = borrow(const_cast<void*>(data), bytes, std::move(keep_alive));
  buffer.read_only_ = true;
  return buffer;
}

std::byte* Buffer::mutable_data() const {
  if (read_only_) throw Error(ErrorCode::kInternal, "write access to read-only bytes");
  return data_;
}

Buffer Buffer::slice(int64_t offset, int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset > size_ || bytes > size_ - offset) {
    throw Error(ErrorCode::kInternal, "a slice leaves its buffer",
                {.expected = "a range within " + std::to_string(size_) + " bytes",
                 .found = std::to_string(bytes) + " bytes at " + std::to_string(offset)});
  }
  Buffer part = *this;
  part.data_ += offset;
  part.size_ = bytes;
  return part;
}

}  // namespace mezzotint
