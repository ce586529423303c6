// Integers with an offset, w ~ (code - offset) * scale, as upstream's exporter makes them
// (msmodelslim at 3de0a3c4, msmodelslim/ir/api/impl/int_quantization.py:41-150).
#pragma once

#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

// offset is an integer of the codes' range: the code of w = 0.
struct AffineParams {
  float scale;
  float offset;
};

inline constexpr float kAffineMinScale = 0x1p-23f;  // float's epsilon

// The range [min, max] of a tensor, channel or group, widened to hold 0; bits 4 or 8.
//   symmetric   s = max(-min, max) / (2^(bits-1) - 1), o = 0
//   asymmetric  s = max / (2^bits - 1) - min / (2^bits - 1), o = rne(-min / s) - 2^(bits-1)
// s is at least kAffineMinScale, also in the formula of o.
MZ_HD AffineParams affine_params(float min, float max, int bits, bool symmetric) {
  const auto codes_below_zero = static_cast<float>(1 << (bits - 1));
  const float low = min < 0.0f ? min : 0.0f;
  const float high = max > 0.0f ? max : 0.0f;
  if (symmetric) {
    const float scale = (-low > high ? -low : high) / (codes_below_zero - 1.0f);
    return {.scale = scale > kAffineMinScale ? scale : kAffineMinScale, .offset = 0.0f};
  }
  const float steps = 2.0f * codes_below_zero - 1.0f;
  const float range = high / steps - low / steps;
  const float scale = range > kAffineMinScale ? range : kAffineMinScale;
  return {.scale = scale, .offset = round_half_even(-low / scale) - codes_below_zero};
}
static_assert(affine_params(-1.0f, 2.0f, 8, false).scale == 2.0f / 255.0f + 1.0f / 255.0f);
static_assert(affine_params(-1.0f, 2.0f, 8, false).offset == -43.0f);
static_assert(affine_params(0.5f, 3.0f, 4, false).offset == -8.0f);
static_assert(affine_params(-3.0f, -1.0f, 4, false).offset == 7.0f);
static_assert(affine_params(0.5f, 3.0f, 4, true).scale == 3.0f / 7.0f);
static_assert(affine_params(0.0f, 0.0f, 8, true).scale == kAffineMinScale);

// q = clamp(rne(w / s + o), -2^(bits-1), 2^(bits-1) - 1), the offset added before the rounding; NaN
// has the code 0.
MZ_HD int8_t affine_code(float w, AffineParams params, int bits) {
  const auto codes_below_zero = static_cast<float>(1 << (bits - 1));
  const float t = w / params.scale + params.offset;
  if (is_nan(t)) return 0;
  return static_cast<int8_t>(clamp(round_half_even(t), -codes_below_zero, codes_below_zero - 1.0f));
}
static_assert(affine_code(2.5f, {.scale = 1.0f, .offset = 0.0f}, 8) == 2);
static_assert(affine_code(-200.0f, {.scale = 1.0f, .offset = 0.0f}, 8) == -128);
static_assert(affine_code(200.0f, {.scale = 1.0f, .offset = 0.0f}, 4) == 7);

MZ_HD float affine_value(int code, AffineParams params) {
  return (static_cast<float>(code) - params.offset) * params.scale;
}
static_assert(affine_value(-128, {.scale = 0.5f, .offset = -28.0f}) == -50.0f);
static_assert(affine_value(127, {.scale = 0.5f, .offset = -28.0f}) == 77.5f);

}  // namespace mezzotint
