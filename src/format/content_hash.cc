#include "format/content_hash.h"

#include <charconv>

#include <fmt/format.h>
// Header-only, so that nobody who links us needs the library.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mezzotint {

struct HashStream::State {
  XXH3_state_t xxh;
};

Hash128 hash_bytes(std::span<const std::byte> bytes) noexcept {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

std::string to_hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

std::optional<Hash128> hash_from_hex(std::string_view hex) noexcept {
  if (hex.size() != 32) return std::nullopt;
  Hash128 hash;
  const char* const middle = hex.data() + 16;
  const char* const end = hex.data() + 32;
  const auto high = std::from_chars(hex.data(), middle, hash.high, 16);
  const auto low = std::from_chars(middle, end, hash.low, 16);
  if (high.ec != std::errc() || high.ptr != middle) return std::nullopt;
  if (low.ec != std::errc() || low.ptr != end) return std::nullopt;
  return hash;
}

HashStream::HashStream() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }

HashStream::~HashStream() = default;

void HashStream::add(std::span<const std::byte> bytes) noexcept {
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
}

void HashStream::add(std::string_view text) noexcept {
  XXH3_128bits_update(&state_->xxh, text.data(), text.size());
}

Hash128 HashStream::finish() const noexcept {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.high64, hash.low64};
}

}  // namespace mezzotint
