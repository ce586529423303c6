// What the contracts with int8 weights per channel share.
#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"
#include "quant/algorithms/contracts.h"
#include "solve/rtn.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

Tensor vector_of(const CheckedTensors& tensors, std::string_view suffix) {
  const Tensor* tensor = tensors.find(suffix);
  return tensor == nullptr ? Tensor() : widened(tensor->reshaped({tensor->size()}));
}

const Tensor& tensor_of(const LayerTensors& tensors, std::string_view layer,
                        std::string_view suffix) {
  const std::string name = fmt::format("{}.{}", layer, suffix);
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const NamedTensor& t) { return t.name == name; });
  MZ_CHECK(it != tensors.end());
  return it->tensor;
}

std::span<float> floats(const Tensor& tensor) {
  return {tensor.mutable_data<float>(), static_cast<size_t>(tensor.size())};
}

}  // namespace

LinearParams read_int8_layer(const AlgorithmRow& row, const CheckedTensors& tensors) {
  LinearParams params;
  params.codes = *tensors.find("weight");
  params.weight_scale = vector_of(tensors, "weight_scale");
  params.bias = vector_of(tensors, "bias");
  params.mul_scale = vector_of(tensors, "div.mul_scale");
  LinearPlan& plan = params.plan;
  plan.n = tensors.dims.n;
  plan.k = tensors.dims.k;
  plan.prologue = params.mul_scale.empty() ? Prologue::kNone : Prologue::kSmooth;
  plan.activation_mode = row.parameters.activation;
  plan.weight = {.element = row.parameters.weight_element,
                 .granularity = Granularity::kPerChannel,
                 .group = 0};
  plan.has_bias = !params.bias.empty();
  return params;
}

void write_int8_layer(const FloatLayer& layer, LayerTensors& tensors, const ExecContext& ctx) {
  const Tensor& codes = tensor_of(tensors, layer.name, "weight");
  const Tensor& scale = tensor_of(tensors, layer.name, "weight_scale");
  const Int8Rows rows = {.codes = codes.mutable_data<int8_t>(),
                         .scale = scale.mutable_data<float>()};
  if (const std::optional<int64_t> bad = round_to_nearest_int8(layer.weight, rows, ctx)) {
    throw Error(ErrorCode::kInput, "the weight holds a value that is not finite",
                {.layer = layer.name,
                 .tensor = layer.name + ".weight",
                 .expected = "finite values",
                 .found = fmt::format("inf or nan in row {}", *bad),
                 .fix = "repair the source file, or keep the layer with --exclude"});
  }
  std::ranges::fill(floats(tensor_of(tensors, layer.name, "weight_offset")), 0.0f);
  if (layer.bias) widen_into(*layer.bias, floats(tensor_of(tensors, layer.name, "bias")));
}

}  // namespace mezzotint
