// Dual-level MXFP4: a float scale for every 512 elements above the MX scales of 32, x ~ element *
// 2^(byte - 127) * scale. Source: NN quant/dynamic_dual_level_mx_quant/op_kernel/arch35/
// dynamic_dual_level_mx_quant_base.h:39-55, 527-600 (docs/numerics.md).
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/e2m1.h"
#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr int64_t kDualBlock = 512;
inline constexpr float kE2M1MaxReciprocal = std::bit_cast<float>(0x3e2aaaabu);  // f32(1/6)

// What an element gives to the amax of its 512: nothing where it is not finite.
MZ_HD float dual_magnitude(float x) { return is_finite(x) ? absolute(x) : 0.0f; }

// s = amax * f32(1/6), one multiplication; 0 below the smallest normal float. NaN for an amax that
// is not finite.
MZ_HD float dual_scale(float amax) {
  if (!is_finite(amax)) return kQuietNaN;
  const float scale = amax * kE2M1MaxReciprocal;
  return scale < 0x1p-126f ? 0.0f : scale;
}
static_assert(dual_scale(12.0f) == 2.0f && dual_scale(8.0f) == 1.3333334f);
static_assert(dual_scale(0.0f) == 0.0f && dual_scale(0x1p-124f) == 0.0f);

// Of weights: s = amax / 6, a true division, as upstream's exporter (msmodelslim at 3de0a3c4,
// msmodelslim/core/quantizer/impl/dualscale.py:106-118); an ulp from the above for a third of them.
// It, too, is 0 below the smallest normal float, where the exporter has 0 / 0.
MZ_HD float dual_weight_scale(float amax) {
  if (!is_finite(amax)) return kQuietNaN;
  const float scale = amax / kE2M1Max;
  return scale < 0x1p-126f ? 0.0f : scale;
}
static_assert(dual_weight_scale(12.0f) == 2.0f && dual_weight_scale(0.0f) == 0.0f);

// t = x / s in float, what the MX blocks then hold by MxScaleRule::kFloor; 0 where s is 0. The
// largest of 512 has |t| = 6 to within an ulp.
MZ_HD float dual_inner(float x, float scale) { return scale == 0.0f ? 0.0f : x / scale; }
static_assert(dual_inner(12.0f, dual_scale(12.0f)) == 6.0f);
static_assert(dual_inner(1e-38f, 0.0f) == 0.0f);

}  // namespace mezzotint
