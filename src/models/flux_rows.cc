#include "models/flux_rows.h"

#include <algorithm>

#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_ops.h"
#include "models/token_ops.h"
#include "nn/linear_input.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

// Elements per task: about 10 us of work, enough to hide the cost of a task.
constexpr int64_t kGrainElements = 16384;

// Row r is token r / batch of sample r % batch.
TokensView tokens_of(const Rows& x, int64_t batch) {
  return {.data = x.data,
          .dtype = x.dtype,
          .batch = batch,
          .tokens = batch > 0 ? x.rows / batch : 0,
          .width = x.width,
          .batch_stride = x.stride,
          .token_stride = batch * x.stride};
}

SampleVectors vectors_of(const PerSample& per_sample) {
  return {.data = per_sample.data, .stride = per_sample.stride};
}

}  // namespace

void modulate_rows(const Rows& x, const PerSample& scale, const PerSample& shift, const Rows& y,
                   const ExecContext& ctx) {
  modulate_tokens(tokens_of(x, scale.batch), vectors_of(scale), vectors_of(shift), kFluxNormEps,
                  tokens_of(y, scale.batch), ctx);
}

void add_gated_rows(const Rows& x, const PerSample& gate, const Rows& y, const ExecContext& ctx) {
  const TokensView sum = tokens_of(y, gate.batch);
  add_gated_tokens(tokens_of(x, gate.batch), vectors_of(gate), sum, sum, ctx);
}

void gelu_rows(const Rows& x, const ExecContext& ctx) {
  const TokensView tokens = tokens_of(x, 1);
  gelu_tokens(tokens, tokens, ctx);
}

void silu_values(const float* x, float* y, int64_t count, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  parallel_for(ctx, count, kGrainElements,
               [&](int64_t begin, int64_t end) { ops.silu(x + begin, y + begin, end - begin); });
}

void normalize_and_rotate_heads(const Rows& x, const HeadNorm& norm, const ExecContext& ctx) {
  const TokensView tokens = tokens_of(x, norm.batch);
  rotate_head_tokens(tokens,
                     {.weight = norm.weight,
                      .head_dim = norm.head_dim,
                      .eps = kFluxNormEps,
                      .cos = norm.cos,
                      .sin = norm.sin},
                     tokens, ctx);
}

void to_token_major(const float* x, int64_t batch, int64_t tokens, int64_t width, float* y) {
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t sample = 0; sample < batch; ++sample, y += width) {
      std::copy_n(x + (sample * tokens + token) * width, width, y);
    }
  }
}

void from_token_major(const Rows& x, int64_t batch, int64_t tokens, float* y) {
  const FloatOps& ops = float_ops(active_isa());
  const FloatType type = float_type_of(x.dtype);
  for (int64_t row = 0; row < tokens * batch; ++row) {
    ops.widen(offset_floats(x.data, type, row * x.stride), type,
              y + (row % batch * tokens + row / batch) * x.width, x.width);
  }
}

}  // namespace mezzotint
