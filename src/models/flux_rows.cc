#include "models/flux_rows.h"

#include <algorithm>

#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_ops.h"

namespace mezzotint {
namespace {

// Elements per task: about 10 us of work, enough to hide the cost of a task.
constexpr int64_t kGrainElements = 16384;

int64_t row_grain(int64_t width) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width));
}

// fn(row) for every row.
template <typename Fn>
void for_each_row(const Rows& x, const ExecContext& ctx, const Fn& fn) {
  parallel_for(ctx, x.rows, row_grain(x.width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fn(row);
  });
}

}  // namespace

void modulate_rows(const Rows& x, const PerSample& scale, const PerSample& shift, const Rows& y,
                   const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  for_each_row(x, ctx, [&](int64_t row) {
    ops.layer_norm_modulate(x.data + row * x.stride, scale.of_row(row), shift.of_row(row),
                            kFluxNormEps, y.data + row * y.stride, x.width);
  });
}

void add_gated_rows(const Rows& x, const PerSample& gate, const Rows& y, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  for_each_row(x, ctx, [&](int64_t row) {
    ops.add_scaled(x.data + row * x.stride, gate.of_row(row), y.data + row * y.stride, x.width);
  });
}

void gelu_rows(const Rows& x, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  for_each_row(x, ctx, [&](int64_t row) {
    float* values = x.data + row * x.stride;
    ops.gelu_tanh(values, values, x.width);
  });
}

void silu_values(const float* x, float* y, int64_t count, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  parallel_for(ctx, count, kGrainElements,
               [&](int64_t begin, int64_t end) { ops.silu(x + begin, y + begin, end - begin); });
}

void normalize_and_rotate_heads(const Rows& x, const HeadNorm& norm, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  const int64_t half = norm.head_dim / 2;
  for_each_row(x, ctx, [&](int64_t row) {
    const int64_t token = row / norm.batch;
    float* end = x.data + row * x.stride + x.width;
    for (float* head = x.data + row * x.stride; head < end; head += norm.head_dim) {
      ops.rms_norm(head, norm.weight, kFluxNormEps, head, norm.head_dim);
      ops.rotate_pairs(head, norm.cos + token * half, norm.sin + token * half, head, norm.head_dim);
    }
  });
}

void to_token_major(const float* x, int64_t batch, int64_t tokens, int64_t width, float* y) {
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t sample = 0; sample < batch; ++sample, y += width) {
      std::copy_n(x + (sample * tokens + token) * width, width, y);
    }
  }
}

void from_token_major(const float* x, int64_t batch, int64_t tokens, int64_t width, float* y) {
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t sample = 0; sample < batch; ++sample, x += width) {
      std::copy_n(x, width, y + (sample * tokens + token) * width);
    }
  }
}

}  // namespace mezzotint
