// Rounding to integers by name. "Half to even" is the rounding of every run-time operator that
// docs/numerics.md describes, "half away from zero" that of weights which an upstream exporter
// wrote.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"

namespace mezzotint {

MZ_HD float absolute(float t) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(t) & 0x7fffffffu);
}

MZ_HD bool is_finite(float t) { return (std::bit_cast<uint32_t>(t) & 0x7f800000u) != 0x7f800000u; }

MZ_HD bool is_nan(float t) { return (std::bit_cast<uint32_t>(t) & 0x7fffffffu) > 0x7f800000u; }

inline constexpr float kQuietNaN = std::bit_cast<float>(0x7fc00000u);

// The nearest integer, ties to even. Floats of [2^23, 2^24) are the integers, so that adding 2^23
// rounds at the units place by the processor's own rule; from 2^23 on t is an integer already.
MZ_HD float round_half_even(float t) {
  constexpr float kUnitUlp = 8388608.0f;  // 2^23
  const float magnitude = absolute(t);
  const float rounded = magnitude < kUnitUlp ? (magnitude + kUnitUlp) - kUnitUlp : magnitude;
  const uint32_t sign = std::bit_cast<uint32_t>(t) & 0x80000000u;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) | sign);
}
static_assert(round_half_even(0.5f) == 0.0f);
static_assert(round_half_even(1.5f) == 2.0f);
static_assert(round_half_even(-2.5f) == -2.0f);
static_assert(round_half_even(126.50001f) == 127.0f);
static_assert(round_half_even(8388607.5f) == 8388608.0f);

// The nearest integer, ties away from zero: std::round. Not floor(|t| + 0.5), whose sum rounds up
// to 1 for the float below 0.5; t and its rounding lie so close together that their difference is
// exact.
MZ_HD float round_half_away(float t) {
  const float even = round_half_even(t);
  const float magnitude = absolute(even);
  const bool low_tie = absolute(t) - magnitude == 0.5f;
  const uint32_t sign = std::bit_cast<uint32_t>(t) & 0x80000000u;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(low_tie ? magnitude + 1.0f : magnitude) |
                              sign);
}
static_assert(round_half_away(0.5f) == 1.0f);
static_assert(round_half_away(0.49999997f) == 0.0f);
static_assert(round_half_away(-2.5f) == -3.0f);
static_assert(round_half_away(-1.5f) == -2.0f);
static_assert(round_half_away(8388606.5f) == 8388607.0f);

enum class Rounding : uint8_t { kHalfEven, kHalfAway };

MZ_HD float round_to_integer(float t, Rounding rounding) {
  return rounding == Rounding::kHalfEven ? round_half_even(t) : round_half_away(t);
}
static_assert(round_to_integer(2.5f, Rounding::kHalfEven) == 2.0f);
static_assert(round_to_integer(2.5f, Rounding::kHalfAway) == 3.0f);

// NaN stays NaN.
MZ_HD float clamp(float t, float low, float high) { return t < low ? low : (t > high ? high : t); }

}  // namespace mezzotint
