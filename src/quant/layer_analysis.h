// What every algorithm would cost every layer, in bytes and in the error of its outputs.
//
//   ModelAnalysis all = analyze_layers(source, options, {"w8a8_dynamic", "w4a16"}, ctx);
//   for (const LayerAnalysis* layer : ranked(all, 0)) ...     // worst first
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"

namespace mezzotint {

struct LayerChoice {
  size_t algorithm = 0;  // of ModelAnalysis::algorithms
  int64_t bytes = 0;     // of the tensors of the layer
  double error = 0;      // || y - y' ||^2 / || y ||^2 on the sample of the input
  double cosine = 1;     // of y and y'

  double sqnr_db() const;
};

struct LayerAnalysis {
  std::string name;
  int64_t n = 0;
  int64_t k = 0;
  int64_t float_bytes = 0;
  std::vector<LayerChoice> choices;  // of the algorithms that may have it, in their order
  std::string reason;                // why none may
};

// An attention that options.attentions name. It has no choice.
struct AttentionAnalysis {
  std::string name;
  std::string algorithm;
  int64_t head_dim = 0;
  int64_t bytes = 0;  // of its rotations
  std::optional<double>
      error{};  // as of LayerChoice, over the collected run; where it was measured
};

struct ModelAnalysis {
  std::vector<std::string> algorithms;  // canonical names
  std::vector<LayerAnalysis> layers;    // in the order of the file
  std::vector<AttentionAnalysis> attentions;
  int64_t float_bytes = 0;  // of all tensors of the model
};

// options.calibration names the statistics; options.algorithm is not read, options.rules may keep
// layers float. Every layer is quantized by every algorithm, one at a time, as an export would
// quantize it if all layers had that algorithm. Throws Error(kUsage) without statistics.
ModelAnalysis analyze_layers(
    const WeightStore& source, const ExportOptions& options,
    const std::vector<std::string>& algorithms, const ExecContext& ctx,
    const std::function<void(double done, const std::string& layer)>& progress = {});

// The layers that may have algorithm number `algorithm`, by falling error.
std::vector<const LayerAnalysis*> ranked(const ModelAnalysis& analysis, size_t algorithm);

// nullptr where the layer may not have it.
const LayerChoice* choice_of(const LayerAnalysis& layer, size_t algorithm);

}  // namespace mezzotint
