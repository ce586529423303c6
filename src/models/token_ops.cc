#include "models/token_ops.h"

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/float_ops.h"
#include "nn/linear_input.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

// Elements per task: about 10 us of work, enough to hide the cost of a task.
constexpr int64_t kGrainElements = 16384;

struct Place {
  int64_t sample;
  int64_t token;
};

// The i-th token in the order of memory.
Place place_of(const TokensView& x, int64_t i) {
  if (x.batch_stride < x.token_stride) return {i % x.batch, i / x.batch};
  return {i / x.tokens, i % x.tokens};
}

// fn(place, scratch) for every token, with `floats` floats of scratch.
template <typename Fn>
void for_each_token(const TokensView& x, int64_t floats, const ExecContext& ctx, const Fn& fn) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, x.width));
  parallel_for(ctx, x.batch * x.tokens, grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch = ctx.workspace().take(floats * static_cast<int64_t>(sizeof(float)));
    for (int64_t i = begin; i < end; ++i) fn(place_of(x, i), scratch.as<float>());
  });
}

void* address_of(const TokensView& x, const Place& at) {
  const int64_t offset = at.sample * x.batch_stride + at.token * x.token_stride;
  return offset_floats(x.data, float_type_of(x.dtype), offset);
}

// The values of a token: where they stand when they are F32, else in scratch.
const float* load(const TokensView& x, const Place& at, const FloatOps& ops, float* scratch) {
  void* const stored = address_of(x, at);
  if (x.dtype == DType::kF32) return static_cast<const float*>(stored);
  ops.widen(stored, float_type_of(x.dtype), scratch, x.width);
  return scratch;
}

// Where to write the values of a token before store() rounds them.
float* output(const TokensView& y, const Place& at, float* scratch) {
  return y.dtype == DType::kF32 ? static_cast<float*>(address_of(y, at)) : scratch;
}

void store(const float* values, const TokensView& y, const Place& at, const FloatOps& ops) {
  if (y.dtype == DType::kF32) return;
  ops.narrow(values, address_of(y, at), float_type_of(y.dtype), y.width);
}

void check_sizes(const TokensView& x, const TokensView& y) {
  MZ_CHECK(x.batch == y.batch && x.tokens == y.tokens && x.width == y.width);
}

}  // namespace

void modulate_tokens(const TokensView& x, const SampleVectors& scale, const SampleVectors& shift,
                     float eps, const TokensView& y, const ExecContext& ctx) {
  check_sizes(x, y);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, x.width, ctx, [&](const Place& at, float* scratch) {
    const float* const values = load(x, at, ops, scratch);
    float* const to = output(y, at, scratch);
    ops.layer_norm_modulate(values, scale.of(at.sample), shift.of(at.sample), eps, to, x.width);
    store(to, y, at, ops);
  });
}

void add_gated_tokens(const TokensView& x, const SampleVectors& gate, const TokensView& y,
                      const TokensView& out, const ExecContext& ctx) {
  check_sizes(x, y);
  check_sizes(x, out);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, 2 * x.width, ctx, [&](const Place& at, float* scratch) {
    const float* const values = load(x, at, ops, scratch);
    const float* const before = load(y, at, ops, scratch + x.width);
    float* const sum = output(out, at, scratch + x.width);
    if (sum != before) std::copy_n(before, x.width, sum);
    ops.add_scaled(values, gate.of(at.sample), sum, x.width);
    store(sum, out, at, ops);
  });
}

void gelu_tokens(const TokensView& x, const TokensView& y, const ExecContext& ctx) {
  check_sizes(x, y);
  MZ_CHECK(x.dtype == y.dtype);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, 0, ctx, [&](const Place& at, float*) {
    ops.gelu_tanh(address_of(x, at), address_of(y, at), float_type_of(x.dtype), x.width);
  });
}

void rotate_head_tokens(const TokensView& x, const HeadRotation& rotation, const TokensView& y,
                        const ExecContext& ctx) {
  check_sizes(x, y);
  const int64_t dim = rotation.head_dim;
  MZ_CHECK(dim > 0 && dim % 2 == 0 && x.width % dim == 0);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, x.width, ctx, [&](const Place& at, float* scratch) {
    const float* const values = load(x, at, ops, scratch);
    float* const to = output(y, at, scratch);
    const float* const cos = rotation.cos + at.token * (dim / 2);
    const float* const sin = rotation.sin + at.token * (dim / 2);
    for (int64_t i = 0; i < x.width; i += dim) {
      ops.rms_norm(values + i, rotation.weight, rotation.eps, to + i, dim);
      ops.rotate_pairs(to + i, cos, sin, to + i, dim);
    }
    store(to, y, at, ops);
  });
}

}  // namespace mezzotint
