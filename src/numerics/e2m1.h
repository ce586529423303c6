// FP4 e2m1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, codes of four bits. Source: OCP
// Microscaling Formats (MX) Specification 1.0, 2023, section 5.3.3.
#pragma once

#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/minifloat.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr float kE2M1Max = 6.0f;
inline constexpr Minifloat kE2M1Format = {
    .mantissa_bits = 1, .bias = 1, .sign_bit = 0x8, .max_code = 0x7, .nan_code = 0x0};

// Saturates at +-6, infinities too. The format has no NaN: it becomes 0, as in the Ascend cast (NN
// quant/dynamic_mx_quant/tests/assets/golden.py:322); CUDA makes it 6.
MZ_HD uint8_t e2m1_from_float(float v, Rounding rounding) {
  return minifloat_from_float<kE2M1Format>(v, rounding);
}

// The upper four bits are ignored.
MZ_HD float e2m1_to_float(uint8_t code) { return minifloat_to_float<kE2M1Format>(code); }

// Twice the value: the integers 0, 1, 2, 3, 4, 6, 8, 12 and their negatives. Sums of their products
// are exact in integers: 32 of them are at most 32 * 144 = 4608.
MZ_HD int e2m1_doubled(uint8_t code) {
  constexpr uint64_t kTable = 0x0c08060403020100u;  // byte i: of code i
  const int magnitude = static_cast<int>((kTable >> (8 * (code & 7u))) & 0xffu);
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

static_assert(e2m1_to_float(0x1) == 0.5f && e2m1_to_float(0xf) == -kE2M1Max);
static_assert(e2m1_doubled(0x5) == 6 && e2m1_doubled(0xf) == -12 && e2m1_doubled(0x8) == 0);
static_assert(e2m1_from_float(0.25f, Rounding::kHalfEven) == 0x0);  // tie of 0 and 0.5
static_assert(e2m1_from_float(0.25f, Rounding::kHalfAway) == 0x1);
static_assert(e2m1_from_float(0.75f, Rounding::kHalfEven) == 0x2);
static_assert(e2m1_from_float(-5.0f, Rounding::kHalfEven) == 0xe);  // tie of 4 and 6: 4
static_assert(e2m1_from_float(-5.0f, Rounding::kHalfAway) == 0xf);
static_assert(e2m1_from_float(100.0f, Rounding::kHalfEven) == 0x7);
static_assert(e2m1_from_float(kQuietNaN, Rounding::kHalfEven) == 0x0);

}  // namespace mezzotint
