// What fuzz targets of kernels share: numbers from an input, and how they fail.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

namespace mezzotint::fuzz {

inline void require(bool condition, std::string_view what) {
  if (condition) return;
  std::fprintf(stderr, "%.*s disagrees with the reference\n", static_cast<int>(what.size()),
               what.data());
  std::abort();
}

// Numbers from an input. The first decisions are its bytes; data goes round them, changed every
// time, so that few bytes fill whole matrices.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  uint8_t byte() {
    if (bytes_.empty()) return 0;
    const size_t round = at_ / bytes_.size();
    const uint8_t value = bytes_[at_ % bytes_.size()];
    ++at_;
    return round == 0 ? value : static_cast<uint8_t>(value * (2 * round + 1) + 29 * round);
  }
  uint16_t word() { return static_cast<uint16_t>(byte() | byte() << 8); }
  uint32_t dword() { return static_cast<uint32_t>(word() | static_cast<uint32_t>(word()) << 16); }
  int64_t below(int64_t n) { return word() % n; }
  template <typename T>
  T one_of(std::span<const T> values) {
    return values[byte() % values.size()];
  }

  // Any float: what quantizers must take.
  float any_float() { return std::bit_cast<float>(dword()); }
  // Zero, a denormal, an infinity or NaN, else a magnitude of [2^-16, 2^16]: sums of these do not
  // overflow.
  float moderate() {
    const uint32_t bits = static_cast<uint32_t>(word()) << 16;
    const uint32_t exponent = (bits >> 23) & 0xffu;
    if (exponent == 0 || exponent == 0xff) return std::bit_cast<float>(bits);
    return std::bit_cast<float>((bits & 0x807fffffu) | ((111 + exponent % 32) << 23));
  }
  float moderate_number() {
    const float value = moderate();
    return std::isfinite(value) ? value : 1.0f;
  }
  float scale() { return std::ldexp(1.0f + static_cast<float>(byte()) / 256, byte() % 16 - 12); }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

template <typename Make>
auto many(int64_t count, const Make& make) {
  std::vector<decltype(make())> values(static_cast<size_t>(count));
  for (auto& value : values) value = make();
  return values;
}

}  // namespace mezzotint::fuzz
