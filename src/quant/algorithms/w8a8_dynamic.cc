// W8A8_DYNAMIC files: int8 weights per channel; activations are quantized per token at run time,
// so the file holds nothing about them.
#include <array>

#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

constexpr std::array kParams = {kInt8WeightParam, kChannelScaleParam, kZeroOffsetParam, kBiasParam,
                                kSmoothingParam};

LinearParams read(const AlgorithmRow& row, const CheckedTensors& tensors) {
  LinearParams params = read_int8_layer(row, tensors);
  params.plan.activation = {.element = row.parameters.activation_element,
                            .granularity = Granularity::kPerToken,
                            .group = 0};
  return params;
}

void write(const AlgorithmRow&, const FloatLayer& layer, LayerTensors& tensors,
           const ExecContext& ctx) {
  write_int8_layer(layer, tensors, ctx);
}

}  // namespace

constinit const FileContract kW8A8DynamicContract = {
    .name = "w8a8_dynamic", .params = kParams, .read = read, .write = write};

}  // namespace mezzotint
