// Symmetric int8: codes of [-127, 127], x ~ code * scale.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr float kInt8Max = 127.0f;
inline constexpr float kInt8Reciprocal = 1.0f / 127.0f;  // rounded to float
static_assert(std::bit_cast<uint32_t>(kInt8Reciprocal) == 0x3c010204u);

// --- activations, per token (docs/numerics.md, the Ascend950 form) -------------------------------

// s = amax * f32(1/127), one multiplication, not a division. A row that holds Inf or NaN has no
// meaning: its scale is NaN, so that its outputs are NaN and the fault is seen.
MZ_HD float int8_token_scale(float amax) {
  return is_finite(amax) ? amax * kInt8Reciprocal : kQuietNaN;
}
static_assert(int8_token_scale(127.0f) == 1.0f);
static_assert(int8_token_scale(0.0f) == 0.0f);

// q = clamp(rne(x / s), -127, 127), a true division. Rows of scale 0 (all zeros, or so small that s
// underflows) and of scale NaN have the codes 0. The clamp acts only where s is denormal, and on
// weights, whose scale is rounded to bf16.
MZ_HD int8_t int8_code(float x, float scale) {
  if (!(scale > 0.0f)) return 0;
  return static_cast<int8_t>(clamp(round_half_even(x / scale), -kInt8Max, kInt8Max));
}
static_assert(int8_code(1.0f, int8_token_scale(1.0f)) == 127);
static_assert(int8_code(2.5f, 1.0f) == 2 && int8_code(-3.5f, 1.0f) == -4);  // ties to even
static_assert(int8_code(1.0f, 0.0f) == 0);

// --- weights, per output channel -----------------------------------------------------------------

// s = bf16(amax * f32(1/127)), rounded BEFORE the codes are made: a reader that casts scales to
// bf16 (docs/numerics.md) computes with the same number. A channel of zeros, or so small that s
// underflows, gets s = 1 and the codes 0: no reader may divide by 0.
MZ_HD float int8_channel_scale(float amax) {
  const float scale = round_to_bf16(int8_token_scale(amax));
  return scale == 0.0f ? 1.0f : scale;
}
static_assert(int8_channel_scale(127.0f) == 1.0f);
static_assert(int8_channel_scale(1.0f) == 0.00787353515625f);     // bf16 below 1/127 = 0.0078740...
static_assert(int8_code(1.0f, int8_channel_scale(1.0f)) == 127);  // rne(127.008)
static_assert(int8_channel_scale(0.0f) == 1.0f);

// --- output (docs/numerics.md) -------------------------------------------------------------------

// The longest k of codes of x times codes of w. Every row sums in 32 bits at least, some of them
// products of unsigned codes: 255 * 128 * 65536 < 2^31.
inline constexpr int64_t kIntegerSumMaxK = 65536;
static_assert(255 * 128 * kIntegerSumMaxK < int64_t{1} << 31);

// y = (acc * w_scale) * x_scale + bias, each step rounded to float, in this order.
MZ_HD float int8_output(int64_t acc, float w_scale, float x_scale, float bias) {
  return static_cast<float>(acc) * w_scale * x_scale + bias;
}
static_assert(int8_output(127 * 127, 0.5f, 0.25f, 1.0f) == 2017.125f);

// --- activations with a scale of the file (docs/numerics.md, static W8A8) ------------------------

// q = clamp(rne(x / s + o), -128, 127), the offset added BEFORE the rounding: with an odd offset a
// tie goes to the code that is even after the addition. NaN has the code 0.
MZ_HD int8_t int8_static_code(float x, float scale, float zero_point) {
  const float t = x / scale + zero_point;
  if (is_nan(t)) return 0;
  return static_cast<int8_t>(clamp(round_half_even(t), -kInt8Max - 1.0f, kInt8Max));
}
static_assert(int8_static_code(0.1f, 0.1f, -5.0f) == -4);
static_assert(int8_static_code(2.5f, 1.0f, 1.0f) == 4);  // rne(3.5); rne(2.5) + 1 would be 3
static_assert(int8_static_code(-200.0f, 1.0f, 0.0f) == -128);

// y = (acc + bias) * deq_scale: the bias is an integer of units of deq_scale, added to the sum.
MZ_HD float int8_static_output(int64_t acc_plus_bias, float deq_scale) {
  return static_cast<float>(acc_plus_bias) * deq_scale;
}
static_assert(int8_static_output(-72 + 590, 0.001f) == 0.518f);

}  // namespace mezzotint
