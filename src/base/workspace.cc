#include "base/workspace.h"

#include <algorithm>

#include "base/check.h"

namespace mezzotint {
namespace {

constexpr int64_t kPage = 4096;

// A free buffer may serve a request down to a quarter of its size: a small request must not sit on
// the one large buffer that the next call needs.
constexpr int64_t kMaxWaste = 4;

// From here on a request becomes whole huge pages (Buffer::allocate): a kernel's tile then takes
// one entry of the TLB, and its pages have no colours that collide in the second-level cache.
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kHugeFrom = kHugePage / 8;

int64_t round_up(int64_t bytes) {
  const int64_t unit = bytes >= kHugeFrom ? kHugePage : kPage;
  return std::max(kPage, (bytes + unit - 1) / unit * unit);
}

}  // namespace

Scratch Workspace::take(int64_t bytes) {
  MZ_CHECK(bytes >= 0 && bytes <= INT64_MAX - kPage);
  const int64_t wanted = round_up(bytes);
  Buffer dropped;  // released after the lock
  {
    const std::lock_guard lock(mutex_);
    // free_ is sorted by size: the first that is large enough fits best.
    const auto fit = std::lower_bound(free_.begin(), free_.end(), wanted,
                                      [](const Buffer& b, int64_t n) { return b.size() < n; });
    if (fit != free_.end() && fit->size() / kMaxWaste <= wanted) {
      Buffer found = std::move(*fit);
      free_.erase(fit);
      return Scratch(this, std::move(found));
    }
    // Requests grow (a larger image): the largest buffer that is too small is replaced, not kept.
    if (fit != free_.begin()) {
      dropped = std::move(*(fit - 1));
      free_.erase(fit - 1);
    }
  }
  dropped = Buffer();
  return Scratch(this, Buffer::allocate(wanted));
}

void Workspace::give_back(Buffer buffer) noexcept {
  const std::lock_guard lock(mutex_);
  const auto place = std::lower_bound(free_.begin(), free_.end(), buffer.size(),
                                      [](const Buffer& b, int64_t n) { return b.size() < n; });
  try {
    free_.insert(place, std::move(buffer));
  } catch (...) {
    // No memory for the list: the buffer is simply freed.
  }
}

Scratch::~Scratch() {
  if (owner_ != nullptr) owner_->give_back(std::move(buffer_));
}

Scratch::Scratch(Scratch&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), buffer_(std::move(other.buffer_)) {}

}  // namespace mezzotint
