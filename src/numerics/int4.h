// Symmetric int4: codes of [-7, 7], x ~ code * scale. Files may hold -8, too.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr float kInt4Max = 7.0f;
inline constexpr float kInt4Reciprocal = 1.0f / 7.0f;  // rounded to float
static_assert(std::bit_cast<uint32_t>(kInt4Reciprocal) == 0x3e124925u);

// s = amax * f32(1/7), as int8_token_scale; NaN for a row that holds Inf or NaN.
MZ_HD float int4_token_scale(float amax) {
  return is_finite(amax) ? amax * kInt4Reciprocal : kQuietNaN;
}
static_assert(int4_token_scale(7.0f) == 1.0f);
static_assert(int4_token_scale(0.0f) == 0.0f);

// q = clamp(rne(x / s), -7, 7), a true division; 0 where s is 0 or NaN.
MZ_HD int8_t int4_code(float x, float scale) {
  if (!(scale > 0.0f)) return 0;
  return static_cast<int8_t>(clamp(round_half_even(x / scale), -kInt4Max, kInt4Max));
}
static_assert(int4_code(1.0f, int4_token_scale(1.0f)) == 7);
static_assert(int4_code(2.5f, 1.0f) == 2 && int4_code(-3.5f, 1.0f) == -4);  // ties to even
static_assert(int4_code(1.0f, 0.0f) == 0);

// Weights, per output channel or group: s = bf16(amax * f32(1/7)), rounded before the codes are
// made; 1 where it would be 0, so that no reader divides by 0.
MZ_HD float int4_weight_scale(float amax) {
  const float scale = round_to_bf16(int4_token_scale(amax));
  return scale == 0.0f ? 1.0f : scale;
}
static_assert(int4_weight_scale(7.0f) == 1.0f && int4_weight_scale(0.0f) == 1.0f);
static_assert(int4_weight_scale(1.0f) == 0.142578125f);  // bf16 below 1/7 = 0.142857...
static_assert(int4_code(1.0f, int4_weight_scale(1.0f)) == 7);

}  // namespace mezzotint
