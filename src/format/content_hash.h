// A 128-bit hash of content (XXH3). It tells different files apart; it is no defence against
// forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mezzotint {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
};

Hash128 hash_bytes(std::span<const std::byte> bytes) noexcept;

std::string to_hex(const Hash128& hash);  // 32 digits, as xxhsum prints it
std::optional<Hash128> hash_from_hex(std::string_view hex) noexcept;

// The hash of bytes that come in pieces; equal to hash_bytes of their concatenation.
class HashStream {
 public:
  HashStream();
  ~HashStream();
  HashStream(const HashStream&) = delete;
  HashStream& operator=(const HashStream&) = delete;

  void add(std::span<const std::byte> bytes) noexcept;
  void add(std::string_view text) noexcept;
  Hash128 finish() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mezzotint
