// What transformer blocks do between their linears, on views of [batch, tokens, width]: each is one
// pass over memory, spread over threads, computed in f32 and rounded once.
//
//   modulate_tokens(x, {scale, stride}, {shift, stride}, 1e-6f, y, ctx);
//
// Every op is a function of a token and its sample's vectors: results do not depend on threads.
#pragma once

#include <cstdint>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// F32, BF16 or F16; strides in elements, of width 1.
struct TokensView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t batch = 0;
  int64_t tokens = 0;
  int64_t width = 0;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
};

// A vector of [width] for each sample.
struct SampleVectors {
  const float* data = nullptr;
  int64_t stride = 0;  // elements between samples

  const float* of(int64_t sample) const { return data + sample * stride; }
};

// What is done to each head of `head_dim` of a token: x / sqrt(mean(x^2) + eps) * weight, then
// adjacent pairs are turned by the token's angles.
struct HeadRotation {
  const float* weight = nullptr;  // [head_dim]
  int64_t head_dim = 0;
  float eps = 0;
  const float* cos = nullptr;  // [tokens, head_dim / 2]
  const float* sin = nullptr;
};

// In all of them y has x's sizes and may be x; out may be y, whose dtype it has. gelu and rotations
// keep the dtype.
// y = LN(x) * (1 + scale) + shift
void modulate_tokens(const TokensView& x, const SampleVectors& scale, const SampleVectors& shift,
                     float eps, const TokensView& y, const ExecContext& ctx);
// out = y + gate * x
void add_gated_tokens(const TokensView& x, const SampleVectors& gate, const TokensView& y,
                      const TokensView& out, const ExecContext& ctx);
void gelu_tokens(const TokensView& x, const TokensView& y, const ExecContext& ctx);  // tanh form
void rotate_head_tokens(const TokensView& x, const HeadRotation& rotation, const TokensView& y,
                        const ExecContext& ctx);

}  // namespace mezzotint
