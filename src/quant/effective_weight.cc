#include "quant/effective_weight.h"

#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/weight_decode.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

WeightView weight_view(const LinearParams& params) {
  const auto floats = [](const Tensor& t) { return t.empty() ? nullptr : t.data<float>(); };
  WeightView view = {.codes = params.codes.raw(),
                     .element = params.plan.weight.element,
                     .n = params.plan.n,
                     .k = params.plan.k,
                     .group = params.plan.weight.group,
                     .scale = floats(params.weight_scale),
                     .offset = floats(params.weight_offset),
                     .dual_scale = floats(params.dual_scale)};
  if (!params.block_scale.empty()) {
    view.block_scale = reinterpret_cast<const uint8_t*>(params.block_scale.raw());
  }
  return view;
}

}  // namespace

void code_row(const LinearParams& params, int64_t row, std::span<float> out) {
  MZ_CHECK(static_cast<int64_t>(out.size()) == params.plan.k);
  const WeightView view = weight_view(params);
  decode_weights(view, row, 0, params.plan.k, out.data());
  if (view.scale != nullptr || view.block_scale != nullptr) return;
  const float scale = folded_scale(params, row);
  for (float& v : out) v *= scale;
}

Tensor code_values(const LinearParams& params, const ExecContext& ctx) {
  const int64_t k = params.plan.k;
  Tensor out = Tensor::allocate(DType::kF32, {params.plan.n, k});
  auto* values = out.mutable_data<float>();
  parallel_for(ctx, params.plan.n, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      code_row(params, n, {values + n * k, static_cast<size_t>(k)});
    }
  });
  return out;
}

void add_low_rank_row(const LinearParams& params, int64_t row, std::span<float> out) {
  const int64_t rank = params.plan.rank;
  std::vector<float> up(static_cast<size_t>(rank));
  std::vector<float> down(out.size());
  widen_range(params.low_rank_up, row * rank, up);
  for (int64_t r = 0; r < rank; ++r) {
    widen_range(params.low_rank_down, r * params.plan.k, down);
    for (size_t i = 0; i < out.size(); ++i) out[i] += up[static_cast<size_t>(r)] * down[i];
  }
}

void effective_row(const LinearParams& params, int64_t row, std::span<float> out) {
  code_row(params, row, out);
  const bool smoothed_branch = params.plan.branch_input == BranchInput::kSmoothed;
  if (params.plan.rank > 0 && smoothed_branch) add_low_rank_row(params, row, out);
  if (!params.mul_scale.empty()) {
    const float* mul = params.mul_scale.data<float>();
    for (size_t i = 0; i < out.size(); ++i) out[i] *= mul[i];
  }
  if (params.plan.rank > 0 && !smoothed_branch) add_low_rank_row(params, row, out);
}

float folded_scale(const LinearParams& params, int64_t row) {
  return params.deq_scale.data<float>()[row] / params.input_scale.data<float>()[0];
}

}  // namespace mezzotint
