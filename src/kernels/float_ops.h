// Elementwise and row ops that models need beside linears: one row or a run of elements at a time.
//
//   const FloatOps& ops = float_ops(active_isa());
//   ops.silu(x, y, n);   // y may be x
//
// One source (float_ops.inl, over 16 lanes whose sums have one fixed order) is compiled for each
// ISA, so that every table gives the same bits. silu and gelu_tanh are within 4 ulp of the formula
// in double where |y| is at least 2^-117: e^x overflows before 1 / e^x vanishes. The tables are
// constant and the ops have no state.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// v = x / sqrt(mean(x^2) + eps) * weight, then adjacent pairs (v0, v1) become
// (v0 c - v1 s, v1 c + v0 s). n is even.
struct HeadTurn {
  const float* weight;  // [n]
  float eps;
  const float* cos;  // [n / 2]
  const float* sin;
};

struct FloatOps {
  void (*silu)(const float* x, float* y, int64_t n) noexcept;  // x / (1 + e^-x)

  // The tanh form; 16 bits within 0.51 ulp, bf16 where |y| is at least 2^-112.
  void (*gelu_tanh)(const void* x, void* y, FloatType type, int64_t n) noexcept;
  // y = (x - mean) / sqrt(var + eps) * (1 + scale) + shift; all [n]
  void (*layer_norm_modulate)(const void* x, FloatType x_type, const float* scale,
                              const float* shift, float eps, void* y, FloatType y_type,
                              int64_t n) noexcept;
  void (*rms_norm_rotate)(const void* x, const HeadTurn& turn, void* y, FloatType type,
                          int64_t n) noexcept;
  // out = y + gate * x; y_type is out's as well
  void (*add_scaled)(const void* x, FloatType x_type, const float* gate, const void* y, void* out,
                     FloatType y_type, int64_t n) noexcept;

  // Conversions; y may not be x.
  void (*widen)(const void* x, FloatType x_type, float* y, int64_t n) noexcept;
  void (*narrow)(const float* x, void* y, FloatType y_type, int64_t n) noexcept;  // half to even
  void (*widen_int8)(const int8_t* q, float* y, int64_t n) noexcept;

  // y = acc * scale + bias, then rounded to y_type; all [n], scale and bias may be null
  void (*scale_bias)(const float* acc, const float* scale, const float* bias, void* y,
                     FloatType y_type, int64_t n) noexcept;

  // Parts of the online softmax (attention_tiles.cc).
  float (*max)(const float* x, int64_t n) noexcept;  // -inf for n = 0
  // x = e^(x * scale - shift) in place; the sum of the results
  float (*exp_sum)(float* x, float scale, float shift, int64_t n) noexcept;
  void (*multiply)(float factor, float* y, int64_t n) noexcept;  // y *= factor

  // Parts of FP8 attention (numerics/fp8_block.h, numerics/e4m3.h).
  float (*amax)(const float* x, int64_t n) noexcept;  // largest |x|; NaN when there is one
  // x = ((x * before) H) * after with Sylvester's H:[n,n] of +-1; n a power of two, at least 16
  void (*hadamard)(const float* before, const float* after, float* x, int64_t n) noexcept;
  void (*e4m3_codes)(const float* x, float scale, uint8_t* codes,
                     int64_t n) noexcept;  // e4m3(x / scale), half to even; scale > 0
  void (*widen_e4m3)(const uint8_t* codes, float* y, int64_t n) noexcept;
  void (*round_e4m3)(float factor, float* x, int64_t n) noexcept;  // x = e4m3(x * factor)
};

const FloatOps& float_ops(Isa isa);  // the best table at or below isa

}  // namespace mezzotint
