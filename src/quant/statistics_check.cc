#include "quant/statistics_check.h"

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "quant/calibrator.h"
#include "quant/input_calibration.h"

namespace mezzotint {
bool needs_gram(const AlgorithmRow& row, const Calibration& how) {
  if (how.feedback == ErrorFeedback::kAlways || row.parameters.solver == Solver::kGptq) return true;
  return row.parameters.solver != Solver::kNearest &&
         row.contract->weight_element == Element::kInt4;
}

const InputStatistics& input_of_layer(const Statistics& statistics, const SelectedLayer& layer,
                                      const Calibration& how) {
  const InputStatistics* input = statistics.of_linear(layer.name);
  if (input != nullptr && input->k == layer.k) return *input;
  throw Error(ErrorCode::kUsage, "the statistics do not know a layer",
              {.layer = layer.name,
               .file = how.statistics.string(),
               .expected = fmt::format("an input of K = {}", layer.k),
               .found = input == nullptr ? "none" : fmt::format("K = {}", input->k),
               .fix = "keep it float with --exclude, or collect again"});
}

const AttentionStatistics* measured_attention(const Statistics& statistics,
                                              const SelectedAttention& attention) {
  const AttentionStatistics* measured = statistics.of_attention(attention.name);
  if (measured == nullptr || attention.algorithm == nullptr) return nullptr;
  const bool same = measured->algorithm == attention.algorithm->canonical &&
                    measured->head_dim == attention.head_dim;
  return same ? measured : nullptr;
}

void require_statistics_of(const SelectedLayer& layer, const Statistics& statistics,
                           const Calibration& how) {
  const AlgorithmRow& row = *layer.algorithm;
  if (!uses_input(row, how)) return;
  const InputStatistics& input = input_of_layer(statistics, layer, how);
  const ActivationMode mode = row.contract->mode;
  const bool smoothed = is_smoothed(row, how);
  if (smoothed || mode == ActivationMode::kPolicy) require_sample(input);
  const bool is_static = mode == ActivationMode::kStatic || mode == ActivationMode::kPolicy;
  if (is_static && !smoothed) require_histograms(input, how);
  if (needs_gram(row, how)) require_gram(input);
}

}  // namespace mezzotint
