#include "models/token_ops.h"

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
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

// fn(place) for every token.
template <typename Fn>
void for_each_token(const TokensView& x, const ExecContext& ctx, const Fn& fn) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, x.width));
  parallel_for(ctx, x.batch * x.tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fn(place_of(x, i));
  });
}

void* address_of(const TokensView& x, const Place& at) {
  const int64_t offset = at.sample * x.batch_stride + at.token * x.token_stride;
  return offset_floats(x.data, float_type_of(x.dtype), offset);
}

void check_sizes(const TokensView& x, const TokensView& y) {
  MZ_CHECK(x.batch == y.batch && x.tokens == y.tokens && x.width == y.width);
}

void check_alike(const TokensView& x, const TokensView& y) {
  check_sizes(x, y);
  MZ_CHECK(x.dtype == y.dtype);
}

}  // namespace

void modulate_tokens(const TokensView& x, const SampleVectors& scale, const SampleVectors& shift,
                     float eps, const TokensView& y, const ExecContext& ctx) {
  check_sizes(x, y);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, ctx, [&](const Place& at) {
    ops.layer_norm_modulate(address_of(x, at), float_type_of(x.dtype), scale.of(at.sample),
                            shift.of(at.sample), eps, address_of(y, at), float_type_of(y.dtype),
                            x.width);
  });
}

void add_gated_tokens(const TokensView& x, const SampleVectors& gate, const TokensView& y,
                      const TokensView& out, const ExecContext& ctx) {
  check_sizes(x, y);
  check_alike(y, out);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, ctx, [&](const Place& at) {
    ops.add_scaled(address_of(x, at), float_type_of(x.dtype), gate.of(at.sample), address_of(y, at),
                   address_of(out, at), float_type_of(y.dtype), x.width);
  });
}

void gelu_tokens(const TokensView& x, const TokensView& y, const ExecContext& ctx) {
  check_alike(x, y);
  const FloatOps& ops = float_ops(active_isa());
  for_each_token(x, ctx, [&](const Place& at) {
    ops.gelu_tanh(address_of(x, at), address_of(y, at), float_type_of(x.dtype), x.width);
  });
}

void rotate_head_tokens(const TokensView& x, const HeadRotation& rotation, const TokensView& y,
                        const ExecContext& ctx) {
  check_alike(x, y);
  const int64_t dim = rotation.head_dim;
  MZ_CHECK(dim > 0 && dim % 2 == 0 && x.width % dim == 0);
  const FloatOps& ops = float_ops(active_isa());
  const FloatType type = float_type_of(x.dtype);
  for_each_token(x, ctx, [&](const Place& at) {
    const HeadTurn turn = {.weight = rotation.weight,
                           .eps = rotation.eps,
                           .cos = rotation.cos + at.token * (dim / 2),
                           .sin = rotation.sin + at.token * (dim / 2)};
    for (int64_t i = 0; i < x.width; i += dim) {
      ops.rms_norm_rotate(offset_floats(address_of(x, at), type, i), turn,
                          offset_floats(address_of(y, at), type, i), type, dim);
    }
  });
}

}  // namespace mezzotint
