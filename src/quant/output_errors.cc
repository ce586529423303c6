#include "quant/output_errors.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "mezzotint/error.h"
#include "numerics/affine.h"
#include "numerics/int8.h"
#include "quant/activation_rounding.h"
#include "quant/difference.h"
#include "quant/effective_weight.h"
#include "quant/input_calibration.h"
#include "quant/weight_errors.h"
#include "solve/outputs.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

// The last rows of the sample: searches look at the first ones.
struct Sample {
  Tensor x;           // F32 [m,k]
  int64_t first = 0;  // row of the sample
};

Sample last_rows(const InputStatistics& input) {
  const int64_t all = input.tokens.dim(0), rows = std::min(all, kSearchRows);
  Sample sample = {.x = Tensor::allocate(DType::kF32, {rows, input.k}), .first = all - rows};
  widen_range(input.tokens, sample.first * input.k,
              {sample.x.mutable_data<float>(), static_cast<size_t>(sample.x.size())});
  return sample;
}

Tensor copied(const Tensor& x) {
  return Tensor::copy_of<float>({x.data<float>(), static_cast<size_t>(x.size())}, x.shape());
}

Tensor smoothed(const Tensor& x, const LinearParams& params) {
  Tensor out = copied(x);
  if (params.mul_scale.empty()) return out;
  const float* mul = params.mul_scale.data<float>();
  auto* values = out.mutable_data<float>();
  for (int64_t i = 0; i < out.size(); ++i) values[i] *= mul[i % params.plan.k];
  return out;
}

// Rows that the layer runs statically, by the scales of the file: of the row's step where there is
// one per step. The others are left as they are.
class StaticRows {
 public:
  StaticRows(const FileContract& contract, const LinearParams& params, const TimestepPolicy& policy)
      : params_(params), policy_(policy), by_policy_(contract.mode == ActivationMode::kPolicy) {}

  bool is_static(int32_t step) const {
    if (params_.input_scale.empty()) return false;
    return !by_policy_ || policy_.at(step) == StepMode::kStatic;
  }

  void round(const Tensor& x, std::span<const int32_t> steps) const {
    const auto k = static_cast<size_t>(params_.plan.k);
    for (size_t i = 0; i < steps.size(); ++i) {
      if (is_static(steps[i])) round_row({x.mutable_data<float>() + i * k, k}, steps[i]);
    }
  }

 private:
  void round_row(std::span<float> x, int32_t step) const {
    const int64_t at = params_.input_scale.size() == 1 ? 0 : step;
    const AffineParams scale = {.scale = params_.input_scale.data<float>()[at],
                                .offset = params_.input_offset.data<float>()[at]};
    for (float& v : x) v = affine_value(int8_static_code(v, scale.scale, scale.offset), scale);
  }

  const LinearParams& params_;
  const TimestepPolicy& policy_;
  bool by_policy_;
};

// x as the codes of the layer's activations say it.
Tensor rounded(const FileContract& contract, const LinearParams& params, const Tensor& x,
               std::span<const int32_t> steps, const TimestepPolicy& policy,
               const ExecContext& ctx) {
  const StaticRows fixed(contract, params, policy);
  const bool all = std::ranges::all_of(steps, [&](int32_t step) { return fixed.is_static(step); });
  const Tensor by_file = copied(x);
  fixed.round(by_file, steps);
  if (all) return by_file;
  const Tensor out = copied(x);
  round_activations(contract, out, ctx);
  const int64_t k = params.plan.k;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!fixed.is_static(steps[i])) continue;
    const auto first = static_cast<int64_t>(i) * k;
    std::copy_n(by_file.data<float>() + first, k, out.mutable_data<float>() + first);
  }
  return out;
}

Tensor quantized_outputs(const FileContract& contract, const LinearParams& params,
                         const Tensor& given, std::span<const int32_t> steps,
                         const TimestepPolicy& policy, const ExecContext& ctx) {
  const Tensor x = smoothed(given, params);
  Tensor branch;
  if (params.plan.rank > 0) {
    const Tensor& read = params.plan.branch_input == BranchInput::kSmoothed ? x : given;
    branch = outputs(outputs(read, widened(params.low_rank_down), ctx), widened(params.low_rank_up),
                     ctx);
  }
  const Tensor y =
      outputs(rounded(contract, params, x, steps, policy, ctx), code_values(params, ctx), ctx);
  for (int64_t i = 0; i < branch.size(); ++i) {
    y.mutable_data<float>()[i] += branch.data<float>()[i];
  }
  return y;
}

Difference difference_of(std::span<const float> exact, std::span<const float> quantized) {
  Difference difference;
  for (size_t i = 0; i < exact.size(); ++i) difference.add(exact[i], quantized[i]);
  return difference;
}

}  // namespace

OutputErrors output_errors(const FileContract& contract, const LinearParams& params,
                           const InputStatistics& input, const Tensor& w,
                           const TimestepPolicy& policy, const ExecContext& ctx) {
  if (input.tokens.empty() || input.tokens.dim(0) == 0) {
    throw Error(ErrorCode::kUsage, "the statistics hold no sample of an input",
                {.layer = input.name,
                 .expected = "rows",
                 .found = "none",
                 .fix = "mezzotint collect with --tokens"});
  }
  const Sample sample = last_rows(input);
  const auto rows = static_cast<size_t>(sample.x.dim(0)), n = static_cast<size_t>(params.plan.n);
  const std::span<const int32_t> steps(input.token_steps.data<int32_t>() + sample.first, rows);
  const Tensor exact = outputs(sample.x, widened(w), ctx);
  const Tensor quantized = quantized_outputs(contract, params, sample.x, steps, policy, ctx);
  std::vector<Difference> per_step(static_cast<size_t>(input.min.dim(0)));
  Difference total;
  for (size_t i = 0; i < rows; ++i) {
    const Difference sums =
        difference_of({exact.data<float>() + i * n, n}, {quantized.data<float>() + i * n, n});
    per_step[static_cast<size_t>(steps[i])].add(sums);
    total.add(sums);
  }
  OutputErrors errors;
  errors.error = total.error();
  errors.cosine = total.cosine();
  for (const Difference& step : per_step) {
    errors.step_errors.push_back(step.signal > 0 ? step.error() : -1.0);
  }
  return errors;
}

double sqnr_db(double error) { return error > 0 ? -10.0 * std::log10(error) : kExactSqnrDb; }

}  // namespace mezzotint
