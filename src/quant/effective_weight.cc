#include "quant/effective_weight.h"

#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/weight_decode.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

struct Energy {
  double signal = 0;
  double noise = 0;
};

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

// Of static files the first step says it: deq_scale = input_scale * weight_scale.
float folded_scale(const LinearParams& params, int64_t row) {
  return params.deq_scale.data<float>()[row] / params.input_scale.data<float>()[0];
}

// out += up[row] down
void add_low_rank(const LinearParams& params, int64_t row, std::span<float> out) {
  const int64_t rank = params.plan.rank;
  std::vector<float> up(static_cast<size_t>(rank));
  std::vector<float> down(out.size());
  widen_range(params.low_rank_up, row * rank, up);
  for (int64_t r = 0; r < rank; ++r) {
    widen_range(params.low_rank_down, r * params.plan.k, down);
    for (size_t i = 0; i < out.size(); ++i) out[i] += up[static_cast<size_t>(r)] * down[i];
  }
}

}  // namespace

void effective_row(const LinearParams& params, int64_t row, std::span<float> out) {
  MZ_CHECK(static_cast<int64_t>(out.size()) == params.plan.k);
  const WeightView view = weight_view(params);
  decode_weights(view, row, 0, params.plan.k, out.data());
  if (view.scale == nullptr && view.block_scale == nullptr) {
    const float scale = folded_scale(params, row);
    for (float& v : out) v *= scale;
  }
  const bool smoothed_branch = params.plan.branch_input == BranchInput::kSmoothed;
  if (params.plan.rank > 0 && smoothed_branch) add_low_rank(params, row, out);
  if (!params.mul_scale.empty()) {
    const float* mul = params.mul_scale.data<float>();
    for (size_t i = 0; i < out.size(); ++i) out[i] *= mul[i];
  }
  if (params.plan.rank > 0 && !smoothed_branch) add_low_rank(params, row, out);
}

double weight_sqnr_db(const Tensor& w, const LinearParams& params, const ExecContext& ctx) {
  const int64_t n = params.plan.n;
  const auto k = static_cast<size_t>(params.plan.k);
  std::vector<Energy> energies(static_cast<size_t>(n));  // per row, summed in order below
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> exact(k);
    std::vector<float> quantized(k);
    for (int64_t row = begin; row < end; ++row) {
      widen_range(w, row * params.plan.k, exact);
      effective_row(params, row, quantized);
      Energy& energy = energies[static_cast<size_t>(row)];
      for (size_t i = 0; i < k; ++i) {
        const double error = static_cast<double>(exact[i]) - quantized[i];
        energy.signal += static_cast<double>(exact[i]) * exact[i];
        energy.noise += error * error;
      }
    }
  });
  Energy total;
  for (const Energy& energy : energies) {
    total.signal += energy.signal;
    total.noise += energy.noise;
  }
  if (total.noise == 0) return kExactSqnrDb;
  return 10.0 * std::log10(total.signal / total.noise);
}

}  // namespace mezzotint
