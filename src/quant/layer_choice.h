// One algorithm, or float, for every layer of an analysis: so that a size holds, or a quality.
//
//   ModelChoice choice = choose_by_size(source, options, analysis, 8'000'000'000);
//   export_quantized(source, out, with_rules(options, choice.rules), ctx);   // or recipe_text()
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/layer_analysis.h"

namespace mezzotint {

struct ModelChoice {
  std::vector<Rule> rules;        // one per layer of the analysis, in its order, with a reason
  std::vector<size_t> algorithm;  // per layer: of ModelAnalysis::algorithms; its size: float
  int64_t bytes = 0;              // of the weight files, headers included
  double error = 0;               // summed over the layers; a float layer has none
};

// Bytes of the weight files at most `target`, the summed error as small as that allows, never above
// that of one algorithm for all layers that fits. Throws Error(kUsage), naming the least size, when
// nothing fits.
ModelChoice choose_by_size(const WeightStore& source, const ExportOptions& options,
                           const ModelAnalysis& analysis, int64_t target);

// Per layer the smallest of at least this SQNR of the outputs, else float.
ModelChoice choose_by_quality(const WeightStore& source, const ExportOptions& options,
                              const ModelAnalysis& analysis, double least_db);

// `options` with these rules alone, for the export that they stand for.
ExportOptions with_rules(ExportOptions options, const std::vector<Rule>& rules);

// What a size costs: a point for each algorithm alone, and the choices between the smallest and
// float.
struct SizePoint {
  std::string label;  // an algorithm; "" for a mixture
  int64_t bytes = 0;  // of the tensors
  double error = 0;   // summed
};
std::vector<SizePoint> size_points(const ModelAnalysis& analysis);
std::vector<SizePoint> uniform_points(const ModelAnalysis& analysis);  // the former alone

}  // namespace mezzotint
