// The statistics of an export, and what is solved for an input before its layers are written.
//
//   Calibrator calibrator(source, options.calibration, plan.quantized, ctx);
//   InputCalibration& in = calibrator.input_of(layer);   // smoothing shared by all that read it
//
// Deterministic: what is solved for an input does not depend on which layer comes first.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/quantize.h"
#include "mezzotint/timestep.h"
#include "mezzotint/weights.h"
#include "quant/input_calibration.h"
#include "quant/layer_selection.h"

namespace mezzotint {

// By the weight's tensor name, as in ExportPlan.
using QuantizedLayers = std::map<std::string, SelectedLayer, std::less<>>;

// Whether files of this algorithm get X.div.mul_scale: where activations are quantized (but for
// W4A4_DYNAMIC, whose readers ignore it), and with AWQ.
bool is_smoothed(const AlgorithmRow& row, const Calibration& how);

// Whether anything of the statistics of a layer's input decides what is written.
bool uses_input(const AlgorithmRow& row, const Calibration& how);

std::string to_text(const Calibration& how);  // "range mse, smoothing search, feedback by name"

// Reads the statistics of `how`, whose model must be `source`. Throws Error(kUsage) otherwise, and
// for a tolerance below zero.
Statistics read_statistics_of(const WeightStore& source, const Calibration& how);

class Calibrator {
 public:
  // All arguments but `how` outlive this.
  Calibrator(const WeightStore& source, const Calibration& how, const QuantizedLayers& layers,
             const WriteOptions& write_options, const ExecContext& ctx);
  ~Calibrator();

  int64_t steps() const noexcept { return statistics_.steps; }
  // nullptr for a layer that the statistics do not know.
  const InputStatistics* statistics_of(const SelectedLayer& layer) const;
  // Throws Error(kUsage) for a layer that the statistics do not know.
  InputCalibration& input_of(const SelectedLayer& layer);

  // Static where that costs at most Calibration::static_tolerance times what one scale per row
  // costs, over all W8A8_TIMESTEP layers together. note_of() says so, for reports.
  TimestepPolicy timestep_policy();
  std::string note_of(const TimestepPolicy& policy) const;

 private:
  std::vector<const SelectedLayer*> readers_of(const InputStatistics& input,
                                               const AlgorithmRow& row) const;
  std::vector<float> solve_multipliers(const InputStatistics& input, const AlgorithmRow& row);

  const WeightStore& source_;
  Calibration how_;
  const QuantizedLayers& layers_;
  WriteOptions write_options_;
  const ExecContext& ctx_;
  Statistics statistics_;
  std::map<std::pair<const InputStatistics*, const AlgorithmRow*>,
           std::unique_ptr<InputCalibration>>
      inputs_;
  InputCalibration* current_ = nullptr;  // the one that may hold a Gram matrix
};

}  // namespace mezzotint
