#include "nn/linear_state.h"

#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "mezzotint/error.h"
#include "nn/linear_input.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

Element element_of(const std::string& name, DType dtype) {
  if (dtype == DType::kF32) return Element::kF32;
  if (dtype == DType::kBF16) return Element::kBF16;
  if (dtype == DType::kF16) return Element::kF16;
  throw Error(ErrorCode::kUnsupported, "a float linear cannot hold this dtype",
              {.layer = name,
               .tensor = name + ".weight",
               .expected = "F32, BF16 or F16",
               .found = std::string(dtype_name(dtype))});
}

Tensor widened_bias(const std::string& name, const Tensor& bias, int64_t n) {
  if (!is_floating(bias.dtype()) || bias.shape() != Shape{n}) {
    throw Error(ErrorCode::kInput, "the bias does not fit the weight",
                {.layer = name,
                 .tensor = name + ".bias",
                 .expected = fmt::format("a float tensor of shape {}", to_string({n})),
                 .found = fmt::format("{} {}", dtype_name(bias.dtype()), to_string(bias.shape()))});
  }
  return widened(bias);
}

}  // namespace

std::shared_ptr<const LinearState> factor_state(const Tensor& factor, Isa isa) {
  if (factor.empty()) return nullptr;
  return make_linear_state(float_params("low-rank factor", factor, {}), isa);
}

LinearParams float_params(const std::string& name, const Tensor& weight,
                          const std::optional<Tensor>& bias) {
  if (weight.shape().size() != 2 || weight.empty()) {
    throw Error(ErrorCode::kInput, "the weight of a linear has the wrong shape",
                {.layer = name,
                 .tensor = name + ".weight",
                 .expected = "[n,k], both at least 1",
                 .found = to_string(weight.shape())});
  }
  LinearParams params;
  params.algorithm = "FLOAT";
  params.plan.n = weight.dim(0);
  params.plan.k = weight.dim(1);
  params.plan.weight.element = element_of(name, weight.dtype());
  params.plan.has_bias = bias.has_value();
  params.codes = weight;
  if (bias) params.bias = widened_bias(name, *bias, params.plan.n);
  return params;
}

std::shared_ptr<const LinearState> make_linear_state(const LinearParams& params, Isa isa,
                                                     const TimestepPolicy& policy) {
  const LinearPlan& plan = params.plan;
  const LayoutRow& layout = choose_layout(plan.weight, activation_form(plan), plan.n, plan.k, isa);
  const WeightCodes codes = {
      .element = plan.weight.element, .n = plan.n, .k = plan.k, .data = params.codes.raw()};
  LinearState state = {.plan = plan,
                       .algorithm = params.algorithm,
                       .blob = pack_weight(layout, codes, plan.weight.group),
                       .weight_scale = params.weight_scale,
                       .weight_offset = params.weight_offset,
                       .block_scale = params.block_scale,
                       .dual_scale = params.dual_scale,
                       .mul_scale = params.mul_scale,
                       .bias = params.bias,
                       .input_scale = params.input_scale,
                       .input_offset = params.input_offset,
                       .quant_bias = params.quant_bias,
                       .deq_scale = params.deq_scale,
                       .low_rank_down = factor_state(params.low_rank_down, isa),
                       .low_rank_up = factor_state(params.low_rank_up, isa),
                       .adapter_down = nullptr,
                       .adapter_up = nullptr,
                       .policy = policy,
                       .isa = isa};
  return std::make_shared<const LinearState>(std::move(state));
}

LinearParams params_of(const LinearState& state) {
  LinearParams params = {.plan = state.plan,
                         .algorithm = state.algorithm,
                         .codes = unpack_weight(state.blob),
                         .weight_scale = state.weight_scale,
                         .weight_offset = state.weight_offset,
                         .block_scale = state.block_scale,
                         .dual_scale = state.dual_scale,
                         .mul_scale = state.mul_scale,
                         .bias = state.bias,
                         .input_scale = state.input_scale,
                         .input_offset = state.input_offset,
                         .quant_bias = state.quant_bias,
                         .deq_scale = state.deq_scale,
                         .low_rank_down = {},
                         .low_rank_up = {}};
  if (state.low_rank_down != nullptr) {
    params.low_rank_down = unpack_weight(state.low_rank_down->blob);
    params.low_rank_up = unpack_weight(state.low_rank_up->blob);
  }
  return params;
}

int64_t resident_bytes(const LinearState& state) {
  int64_t bytes = state.blob.size();
  for (const Tensor* t : {&state.weight_scale, &state.weight_offset, &state.block_scale,
                          &state.dual_scale, &state.mul_scale, &state.bias, &state.input_scale,
                          &state.input_offset, &state.quant_bias, &state.deq_scale}) {
    if (!t->empty()) bytes += t->byte_size();
  }
  for (const auto& factor :
       {state.low_rank_down, state.low_rank_up, state.adapter_down, state.adapter_up}) {
    if (factor != nullptr) bytes += resident_bytes(*factor);
  }
  return bytes;
}

}  // namespace mezzotint
