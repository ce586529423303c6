// FP8 e5m2. Source: OCP 8-bit Floating Point Specification (OFP8) 1.0, 2023, tables 1 and 2;
// saturating conversion, table 3.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/minifloat.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr float kE5M2Max = 57344.0f;
inline constexpr uint8_t kE5M2Infinity = 0x7c;  // magnitudes above it are NaN
inline constexpr Minifloat kE5M2Format = {
    .mantissa_bits = 2, .bias = 15, .sign_bit = 0x80, .max_code = 0x7b, .nan_code = 0x7f};

// Saturates at +-57344, infinities too; NaN becomes 0x7f.
MZ_HD uint8_t e5m2_from_float(float v, Rounding rounding) {
  return minifloat_from_float<kE5M2Format>(v, rounding);
}

MZ_HD float e5m2_to_float(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  if (magnitude < kE5M2Infinity) return minifloat_to_float<kE5M2Format>(code);
  if (magnitude > kE5M2Infinity) return kQuietNaN;
  return std::bit_cast<float>(code == kE5M2Infinity ? 0x7f800000u : 0xff800000u);
}

static_assert(e5m2_to_float(0x7b) == kE5M2Max && e5m2_to_float(0x04) == 0x1p-14f);
static_assert(e5m2_to_float(0x81) == -0x1p-16f && !is_finite(e5m2_to_float(0xfc)));
static_assert(e5m2_from_float(1.0f, Rounding::kHalfEven) == 0x3c);
static_assert(e5m2_from_float(9.0f, Rounding::kHalfEven) == 0x48);  // tie of 8 and 10: 8
static_assert(e5m2_from_float(9.0f, Rounding::kHalfAway) == 0x49);
static_assert(e5m2_from_float(-1e30f, Rounding::kHalfEven) == 0xfb);

}  // namespace mezzotint
