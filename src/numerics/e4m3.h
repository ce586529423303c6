// FP8 e4m3 without infinities (float8_e4m3fn). Source: OCP 8-bit Floating Point Specification
// (OFP8) 1.0, 2023, tables 1 and 2; saturating conversion, table 3.
#pragma once

#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/minifloat.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr float kE4M3Max = 448.0f;
inline constexpr uint8_t kE4M3NaN = 0x7f;  // 0xff is NaN, too
inline constexpr Minifloat kE4M3Format = {
    .mantissa_bits = 3, .bias = 7, .sign_bit = 0x80, .max_code = 0x7e, .nan_code = kE4M3NaN};

// Saturates at +-448, infinities too; NaN becomes 0x7f.
MZ_HD uint8_t e4m3_from_float(float v, Rounding rounding) {
  return minifloat_from_float<kE4M3Format>(v, rounding);
}

MZ_HD float e4m3_to_float(uint8_t code) {
  return (code & 0x7f) == kE4M3NaN ? kQuietNaN : minifloat_to_float<kE4M3Format>(code);
}

static_assert(e4m3_to_float(0x7e) == kE4M3Max && e4m3_to_float(0x08) == 0x1p-6f);
static_assert(e4m3_to_float(0x81) == -0x1p-9f && is_nan(e4m3_to_float(0xff)));
static_assert(e4m3_from_float(1.0f, Rounding::kHalfEven) == 0x38);
static_assert(e4m3_from_float(17.0f, Rounding::kHalfEven) == 0x58);  // tie of 16 and 18: 16
static_assert(e4m3_from_float(17.0f, Rounding::kHalfAway) == 0x59);
static_assert(e4m3_from_float(0x1p-10f, Rounding::kHalfEven) == 0x00);  // half the smallest
static_assert(e4m3_from_float(0x1p-10f, Rounding::kHalfAway) == 0x01);
static_assert(e4m3_from_float(-464.0f, Rounding::kHalfAway) == 0xfe);
static_assert(e4m3_from_float(kQuietNaN, Rounding::kHalfEven) == kE4M3NaN);

}  // namespace mezzotint
