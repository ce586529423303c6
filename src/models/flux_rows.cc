#include "models/flux_rows.h"

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/float_ops.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

// Elements per task: about 10 us of work, enough to hide the cost of a task.
constexpr int64_t kGrainElements = 16384;

int64_t row_grain(int64_t width) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width));
}

// fn(row, scratch) for every row, with `width` floats of scratch.
template <typename Fn>
void for_each_row(const Rows& x, const ExecContext& ctx, const Fn& fn) {
  parallel_for(ctx, x.rows, row_grain(x.width), [&](int64_t begin, int64_t end) {
    const Scratch scratch = ctx.workspace().take(x.width * static_cast<int64_t>(sizeof(float)));
    for (int64_t row = begin; row < end; ++row) fn(row, scratch.as<float>());
  });
}

FloatType float_type(DType dtype) {
  return dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
}

// Where a row stands as floats: in place when it is F32.
float* floats_of(const Rows& x, int64_t row, float* scratch) {
  return x.dtype == DType::kF32 ? static_cast<float*>(x.data) + row * x.stride : scratch;
}

float* load_row(const Rows& x, int64_t row, const FloatOps& ops, float* scratch) {
  float* const values = floats_of(x, row, scratch);
  const FloatType type = float_type(x.dtype);
  if (values == scratch) {
    ops.widen(offset_floats(x.data, type, row * x.stride), type, scratch, x.width);
  }
  return values;
}

// What floats_of() or load_row() gave, back to its row.
void store_row(const float* values, const Rows& y, int64_t row, const FloatOps& ops) {
  if (y.dtype == DType::kF32) return;
  const FloatType type = float_type(y.dtype);
  ops.narrow(values, offset_floats(y.data, type, row * y.stride), type, y.width);
}

}  // namespace

void modulate_rows(const Rows& x, const PerSample& scale, const PerSample& shift, const Rows& y,
                   const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  MZ_CHECK(x.dtype == DType::kF32);
  for_each_row(x, ctx, [&](int64_t row, float* scratch) {
    float* const to = floats_of(y, row, scratch);
    ops.layer_norm_modulate(static_cast<const float*>(x.data) + row * x.stride, scale.of_row(row),
                            shift.of_row(row), kFluxNormEps, to, x.width);
    store_row(to, y, row, ops);
  });
}

void add_gated_rows(const Rows& x, const PerSample& gate, const Rows& y, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  MZ_CHECK(y.dtype == DType::kF32);
  for_each_row(x, ctx, [&](int64_t row, float* scratch) {
    ops.add_scaled(load_row(x, row, ops, scratch), gate.of_row(row),
                   static_cast<float*>(y.data) + row * y.stride, x.width);
  });
}

void gelu_rows(const Rows& x, const ExecContext& ctx) {
  const FloatOps& ops = float_ops(active_isa());
  for_each_row(x, ctx, [&](int64_t row, float* scratch) {
    float* const values = load_row(x, row, ops, scratch);
    ops.gelu_tanh(values, values, x.width);
    store_row(values, x, row, ops);
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
  for_each_row(x, ctx, [&](int64_t row, float* scratch) {
    const int64_t token = row / norm.batch;
    float* const values = load_row(x, row, ops, scratch);
    for (float* head = values; head < values + x.width; head += norm.head_dim) {
      ops.rms_norm(head, norm.weight, kFluxNormEps, head, norm.head_dim);
      ops.rotate_pairs(head, norm.cos + token * half, norm.sin + token * half, head, norm.head_dim);
    }
    store_row(values, x, row, ops);
  });
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
  const FloatType type = float_type(x.dtype);
  for (int64_t row = 0; row < tokens * batch; ++row) {
    ops.widen(offset_floats(x.data, type, row * x.stride), type,
              y + (row % batch * tokens + row / batch) * x.width, x.width);
  }
}

}  // namespace mezzotint
