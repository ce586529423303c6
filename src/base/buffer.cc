#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "base/buffer_reuse.h"
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

// Mappings that wait to be used again, while a BufferReuse lives.
class WaitingMaps {
 public:
  struct Map {
    void* data = nullptr;
    int64_t bytes = 0;
  };

  void allow(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    most_bytes_ += bytes;
  }

  void disallow(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    most_bytes_ -= bytes;
    keep_at_most(most_bytes_);
  }

  // For memory that is short.
  void give_up_all() {
    const std::lock_guard lock(mutex_);
    keep_at_most(0);
  }

  // The smallest that fits, unless an eighth of it would lie idle.
  Map take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto best = maps_.end();
    for (auto map = maps_.begin(); map != maps_.end(); ++map) {
      if (map->bytes < bytes || map->bytes - bytes > map->bytes / 8) continue;
      if (best == maps_.end() || map->bytes < best->bytes) best = map;
    }
    if (best == maps_.end()) return {};
    const Map found = *best;
    maps_.erase(best);
    bytes_ -= found.bytes;
    return found;
  }

  // In the place of those that have waited longest: later ones are more like what comes next.
  void give_back(Map map) noexcept {
    const std::lock_guard lock(mutex_);
    if (map.bytes > most_bytes_) return unmap(map);
    keep_at_most(most_bytes_ - map.bytes);
    try {
      maps_.push_back(map);
      bytes_ += map.bytes;
    } catch (const std::bad_alloc&) {
      unmap(map);
    }
  }

 private:
  static void unmap(Map map) noexcept { ::munmap(map.data, static_cast<size_t>(map.bytes)); }

  void keep_at_most(int64_t bytes) noexcept {
    auto kept = maps_.begin();
    for (; bytes_ > bytes; ++kept) {
      bytes_ -= kept->bytes;
      unmap(*kept);
    }
    maps_.erase(maps_.begin(), kept);
  }

  std::mutex mutex_;
  std::vector<Map> maps_;  // the one that waits longest first
  int64_t bytes_ = 0;
  int64_t most_bytes_ = 0;  // 0: nothing waits
};

WaitingMaps& waiting_maps() {
  static auto* const maps = new WaitingMaps;  // buffers may outlive every static object
  return *maps;
}

std::shared_ptr<void> allocate_small(int64_t bytes) {
  const int64_t rounded = (bytes / kAlignment + 1) * kAlignment;
  void* data = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (data == nullptr) out_of_memory(bytes);
  return {data, [](void* p) { std::free(p); }};
}

void* map_memory(int64_t bytes) {
  return ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// Aligned to 2 MiB and marked for huge pages: a GEMM over a large weight then misses the TLB 512
// times less often. The end that fills none stays on small ones: 16 MiB and a header would else
// take 18.
std::shared_ptr<void> allocate_large(int64_t bytes) {
  const int64_t rounded = (bytes + kPage - 1) / kPage * kPage;
  const auto owned = [](WaitingMaps::Map map) {
    return std::shared_ptr<void>(
        map.data, [bytes = map.bytes](void* p) { waiting_maps().give_back({p, bytes}); });
  };
  if (const WaitingMaps::Map map = waiting_maps().take(rounded); map.data != nullptr) {
    return owned(map);
  }
  const int64_t mapped = rounded + kHugePage;
  void* base = map_memory(mapped);
  if (base == MAP_FAILED) {
    waiting_maps().give_up_all();
    base = map_memory(mapped);
  }
  if (base == MAP_FAILED) out_of_memory(bytes);
  const int64_t skip =
      (kHugePage - static_cast<int64_t>(reinterpret_cast<uintptr_t>(base) % kHugePage)) % kHugePage;
  std::byte* data = static_cast<std::byte*>(base) + skip;
  if (skip > 0) ::munmap(base, static_cast<size_t>(skip));
  const int64_t tail = mapped - skip - rounded;
  if (tail > 0) ::munmap(data + rounded, static_cast<size_t>(tail));
  // A wish; failure is harmless.
  ::madvise(data, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
  return owned({data, rounded});
}

}  // namespace

BufferReuse::BufferReuse(int64_t most_bytes) : most_bytes_(most_bytes) {
  waiting_maps().allow(most_bytes_);
}

BufferReuse::~BufferReuse() { waiting_maps().disallow(most_bytes_); }

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
