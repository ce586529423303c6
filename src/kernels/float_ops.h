// Elementwise and row ops that models need beside linears: f32 in, f32 out, one row or a run of
// elements at a time. One source (cpu/float_ops.inl) compiled for each ISA; every row of the table
// is within 4 ulp of the double formula in reference/.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace mezzotint {

struct FloatOps {
  void (*silu)(const float* x, float* y, int64_t n) noexcept;       // x / (1 + e^-x)
  void (*gelu_tanh)(const float* x, float* y, int64_t n) noexcept;  // tanh form
  // y = (x - mean) / sqrt(var + eps) * (1 + scale) + shift; all [n]
  void (*layer_norm_modulate)(const float* x, const float* scale, const float* shift, float eps,
                              float* y, int64_t n) noexcept;
  // y = x / sqrt(mean(x^2) + eps) * weight; all [n]
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n) noexcept;
  // adjacent pairs: (x0,x1) -> (x0 c - x1 s, x1 c + x0 s); cos, sin have one value per pair
  void (*rotate_pairs)(const float* x, const float* cos, const float* sin, float* y,
                       int64_t n) noexcept;
  void (*add_scaled)(const float* x, const float* gate, float* y, int64_t n) noexcept;  // y += gate*x
};

const FloatOps& float_ops(Isa isa);  // the best table at or below isa

}  // namespace mezzotint
