#include "quant/written_layer.h"

#include "base/check.h"

namespace mezzotint {

std::function<std::optional<Tensor>(const std::string&)> lookup_in(const LayerTensors& tensors) {
  return [&tensors](const std::string& name) -> std::optional<Tensor> {
    for (const NamedTensor& tensor : tensors) {
      if (tensor.name == name) return tensor.tensor;
    }
    return std::nullopt;
  };
}

LayerFile written_file(const SelectedLayer& layer, Smoothed smoothed, const LayerTensors& tensors) {
  const bool below = smoothed == Smoothed::kYes;
  return {.layer = layer.name,
          .prefix = layer.name + (below ? std::string(kSmoothedSuffix) : ""),
          .file = kBeingWritten,
          .tensor = lookup_in(tensors),
          .dims = {.n = layer.n, .k = layer.k},
          .bias = layer.has_bias ? BiasRule::kRequired : BiasRule::kUnwanted};
}

FloatLayer float_layer(const WeightStore& source, const SelectedLayer& layer) {
  FloatLayer floats = {
      .name = layer.name, .weight = source.read(layer.name + ".weight"), .bias = {}};
  if (layer.has_bias) floats.bias = source.read(layer.name + ".bias");
  return floats;
}

WrittenLayer write_and_read_back(const FloatLayer& floats, const SelectedLayer& layer,
                                 const WriteOptions& how, const Calibration& calibration,
                                 Calibrator* calibrator, const ExecContext& ctx) {
  WriteOptions options = how;
  options.smoothed = is_smoothed(*layer.algorithm, calibration) ? Smoothed::kYes : Smoothed::kNo;
  if (uses_input(*layer.algorithm, calibration)) {
    MZ_CHECK(calibrator != nullptr);
    options.calibration = &calibrator->input_of(layer);
  }
  WrittenLayer written = {.tensors = write_layer_params(*layer.algorithm, floats, options, ctx),
                          .params = {}};
  written.params =
      read_layer_params(*layer.algorithm, written_file(layer, options.smoothed, written.tensors));
  return written;
}

}  // namespace mezzotint
