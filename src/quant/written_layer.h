// One layer of an export: quantized, and read back through the loader's own checks.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "mezzotint/context.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"
#include "quant/calibrator.h"
#include "quant/layer_selection.h"

namespace mezzotint {

inline constexpr const char* kBeingWritten = "(being written)";  // the file, in messages

// Tensors by name, as a reader will find them. `tensors` outlives the result.
std::function<std::optional<Tensor>(const std::string&)> lookup_in(const LayerTensors& tensors);
LayerFile written_file(const SelectedLayer& layer, Smoothed smoothed, const LayerTensors& tensors);

struct WrittenLayer {
  LayerTensors tensors;  // what goes into the file
  LinearParams params;   // what a reader makes of it
};

// The float tensors of a layer.
FloatLayer float_layer(const WeightStore& source, const SelectedLayer& layer);

// `how` is the plan's, without the layer's calibration; `calibrator` may be null where nothing of
// the statistics is used.
WrittenLayer write_and_read_back(const FloatLayer& floats, const SelectedLayer& layer,
                                 const WriteOptions& how, const Calibration& calibration,
                                 Calibrator* calibrator, const ExecContext& ctx);

}  // namespace mezzotint
