#include "quant/effective_weight.h"

#include <algorithm>
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

void decode_row(const LinearParams& params, const WeightView& view, int64_t row, float* out) {
  decode_weights(view, row, 0, view.k, out);
  if (view.scale != nullptr || view.block_scale != nullptr) return;
  const float scale = folded_scale(params, row);
  for (int64_t i = 0; i < view.k; ++i) out[i] *= scale;
}

void add(std::span<const float> from, std::span<float> to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

void multiply_columns(const Tensor& factors, std::span<float> rows) {
  const auto k = static_cast<size_t>(factors.size());
  const float* factor = factors.data<float>();
  for (size_t first = 0; first < rows.size(); first += k) {
    float* row = rows.data() + first;
    for (size_t i = 0; i < k; ++i) row[i] *= factor[i];
  }
}

}  // namespace

EffectiveWeight::EffectiveWeight(const LinearParams& params) : params_(params) {
  if (params.plan.rank == 0) return;
  up_ = widened(params.low_rank_up);
  down_ = PanelledMatrix(params.low_rank_down);
}

int64_t EffectiveWeight::row_count(std::span<const float> rows) const {
  const int64_t count = static_cast<int64_t>(rows.size()) / params_.plan.k;
  MZ_CHECK(static_cast<int64_t>(rows.size()) == count * params_.plan.k);
  return count;
}

void EffectiveWeight::codes(int64_t first, std::span<float> out) const {
  const WeightView view = weight_view(params_);
  for (int64_t i = 0; i < row_count(out); ++i) {
    decode_row(params_, view, first + i, out.data() + i * view.k);
  }
}

void EffectiveWeight::branch(int64_t first, std::span<float> out) const {
  const int64_t k = params_.plan.k, rank = params_.plan.rank;
  MZ_CHECK(rank > 0);
  std::ranges::fill(out, 0.0f);
  down_.add_product(up_.data<float>() + first * rank,
                    {.rows = row_count(out), .columns = k, .data = out.data(), .stride = k});
}

void EffectiveWeight::combine(std::span<float> codes, std::span<const float> branch) const {
  const bool smoothed = params_.plan.branch_input == BranchInput::kSmoothed;
  if (smoothed) add(branch, codes);
  if (!params_.mul_scale.empty()) multiply_columns(params_.mul_scale, codes);
  if (!smoothed) add(branch, codes);
}

void EffectiveWeight::rows(int64_t first, std::span<float> out) const {
  codes(first, out);
  std::vector<float> low_rank(params_.plan.rank > 0 ? out.size() : 0);
  if (!low_rank.empty()) branch(first, low_rank);
  if (!low_rank.empty() || !params_.mul_scale.empty()) combine(out, low_rank);
}

Tensor code_values(const LinearParams& params, const ExecContext& ctx) {
  const int64_t k = params.plan.k;
  const EffectiveWeight effective(params);
  Tensor out = Tensor::allocate(DType::kF32, {params.plan.n, k});
  auto* values = out.mutable_data<float>();
  parallel_for(ctx, params.plan.n, kRowGrain, [&](int64_t begin, int64_t end) {
    effective.codes(begin, {values + begin * k, static_cast<size_t>((end - begin) * k)});
  });
  return out;
}

float folded_scale(const LinearParams& params, int64_t row) {
  return params.deq_scale.data<float>()[row] / params.input_scale.data<float>()[0];
}

}  // namespace mezzotint
