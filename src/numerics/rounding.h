// Rounding to integers by name. "Half to even" is the rounding of every operator that
// docs/numerics.md describes.
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

// NaN stays NaN.
MZ_HD float clamp(float t, float low, float high) { return t < low ? low : (t > high ? high : t); }

}  // namespace mezzotint
