// What upstream's runtime and exporter round where we do not (docs/compatibility.md). Sources: its
// layers (MindIE-SD at 3066189, mindiesd/quantization/layer.py) and the operators they call.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/e2m1.h"
#include "numerics/f16.h"
#include "numerics/host_device.h"
#include "numerics/mx.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// --- run time ------------------------------------------------------------------------------------

// Half to even, to what a caller's tensor holds.
MZ_HD float round_to(float value, FloatType type) {
  switch (type) {
    case FloatType::kF32:
      return value;
    case FloatType::kBF16:
      return round_to_bf16(value);
    case FloatType::kF16:
      return f16_to_float(f16_from_float(value));
  }
  __builtin_unreachable();
}
static_assert(round_to(1.001f, FloatType::kBF16) == 1.0f);
static_assert(round_to(1.001f, FloatType::kF16) == 1.0009765625f);

// A weight-only weight, the scale and the product in the dtype of x (NN
// matmul/weight_quant_batch_matmul_v2/tests/assets/wqbmmv2_kernel_golden.py:200-300).
MZ_HD float upstream_weight(int code, float scale, FloatType x) {
  return round_to(static_cast<float>(code) * round_to(scale, x), x);
}
static_assert(upstream_weight(3, 0.1f, FloatType::kBF16) == 0.30078125f);  // 3 * 0.10009765625
static_assert(upstream_weight(3, 0.5f, FloatType::kF32) == 1.5f);

// 19 bits of the scale of a static layer, truncated: sign, exponent, 10 bits of mantissa. Only f16
// outputs go through this form (npu_trans_quant_param).
MZ_HD float upstream_deq_scale(float scale, FloatType y) {
  constexpr uint32_t kKept = 0xffffe000u;
  if (y != FloatType::kF16) return scale;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scale) & kKept);
}
static_assert(upstream_deq_scale(0.001f, FloatType::kF16) == std::bit_cast<float>(0x3a830000u));
static_assert(upstream_deq_scale(0.001f, FloatType::kBF16) == 0.001f);

// The input_scale of a static layer: bf16 models keep it as bf16, f16 models as f32.
MZ_HD float upstream_input_scale(float scale, FloatType x) {
  return x == FloatType::kBF16 ? round_to_bf16(scale) : scale;
}
static_assert(upstream_input_scale(0.1f, FloatType::kBF16) == 0.10009765625f);
static_assert(upstream_input_scale(0.1f, FloatType::kF16) == 0.1f);

// x * mul_scale, all three in the dtype of x.
MZ_HD float upstream_smoothed(float x, float mul_scale, FloatType type) {
  return round_to(x * round_to(mul_scale, type), type);
}
static_assert(upstream_smoothed(3.0f, 0.1f, FloatType::kBF16) == 0.30078125f);

// --- weights of MX files -------------------------------------------------------------------------

// The exporter's rule of an element: half away from zero, the exponent raised for e2m1.
MZ_HD MxScaleRule upstream_mx_rule(Element element) {
  return element == Element::kE2M1 ? MxScaleRule::kUpstreamFp4 : MxScaleRule::kFloor;
}

// One block of w:[count] as upstream's exporter writes it; returns the byte. sign(0) is 0 there, so
// that -0 becomes +0, while a small negative value becomes -0.
MZ_HD uint8_t upstream_mx_block(const float* w, int64_t count, Element element, uint8_t* codes) {
  const uint8_t byte =
      mx_quantize_block(w, count, element, upstream_mx_rule(element), Rounding::kHalfAway, codes);
  for (int64_t i = 0; i < count; ++i) {
    if (w[i] == 0.0f) codes[i] = 0;
  }
  return byte;
}

}  // namespace mezzotint
