// The row operations between the linears of a Flux block, on its own order of rows (token_ops.h has
// them for any).
#pragma once

#include <cstdint>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct FloatOps;

constexpr float kFluxNormEps = 1e-6f;

// One vector per sample: row r of a token-major buffer uses sample r % batch.
struct PerSample {
  const float* data = nullptr;
  int64_t batch = 0;
  int64_t stride = 0;  // elements between samples
};

// A token-major buffer of F32 or BF16 rows. Every operation computes in f32.
struct Rows {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t width = 0;
  int64_t stride = 0;

  Matrix matrix() const { return {data, dtype, rows, width, stride}; }
  ConstMatrix const_matrix() const { return {data, dtype, rows, width, stride}; }
};

// y = LN(x) * (1 + scale) + shift; x is F32
void modulate_rows(const Rows& x, const PerSample& scale, const PerSample& shift, const Rows& y,
                   const ExecContext& ctx);
// y += gate * x; y is F32
void add_gated_rows(const Rows& x, const PerSample& gate, const Rows& y, const ExecContext& ctx);
void gelu_rows(const Rows& x, const ExecContext& ctx);  // in place, tanh form
void silu_values(const float* x, float* y, int64_t count, const ExecContext& ctx);

// RMSNorm over each head, then rotation of adjacent pairs, in place.
struct HeadNorm {
  const float* weight = nullptr;  // [head_dim]
  int64_t head_dim = 0;
  const float* cos = nullptr;  // [tokens, head_dim / 2] of the first row's token on
  const float* sin = nullptr;
  int64_t batch = 0;
};
void normalize_and_rotate_heads(const Rows& x, const HeadNorm& norm, const ExecContext& ctx);

// [batch, tokens, width] of the caller <-> token-major [tokens, batch, width].
void to_token_major(const float* x, int64_t batch, int64_t tokens, int64_t width, float* y);
void from_token_major(const Rows& x, int64_t batch, int64_t tokens, float* y);

}  // namespace mezzotint
