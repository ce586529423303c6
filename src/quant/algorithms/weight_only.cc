// Weight-only files: W8A16. Activations stay float.
#include <array>

#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

constexpr std::array kParams = {kInt8WeightParam, kChannelScaleParam, kZeroOffsetParam, kBiasParam,
                                kSmoothingParam};

LinearParams read(const AlgorithmRow& row, const CheckedTensors& tensors) {
  return read_int8_layer(row, tensors);
}

void write(const AlgorithmRow&, const FloatLayer& layer, LayerTensors& tensors,
           const ExecContext& ctx) {
  write_int8_layer(layer, tensors, ctx);
}

}  // namespace

constinit const FileContract kWeightOnlyContract = {
    .name = "weight_only", .params = kParams, .read = read, .write = write};

}  // namespace mezzotint
