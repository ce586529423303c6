#include "quant/folder_errors.h"

#include <algorithm>
#include <optional>

#include "mezzotint/timestep.h"
#include "quant/calibrator.h"
#include "quant/layer_report.h"
#include "quant/quantized_folder.h"

namespace mezzotint {
namespace {

TimestepPolicy policy_of(const QuantizedFolder& folder) {
  const auto policy = folder.descriptor.facts.find(facts::kTimestepPolicy);
  if (policy == folder.descriptor.facts.end()) return {};
  return TimestepPolicy::parse(policy->second);
}

}  // namespace

void add_errors(const WeightStore& floats, const std::filesystem::path& folder,
                const std::filesystem::path& statistics, Report& report, const ExecContext& ctx) {
  const QuantizedFolder quantized = open_quantized(folder);
  const TimestepPolicy policy = policy_of(quantized);
  std::optional<Statistics> stats;
  if (!statistics.empty()) stats = read_statistics_of(floats, {.statistics = statistics});
  for (const LayerEntry& entry : quantized.layers) {
    const auto row = std::ranges::find(report.layers, entry.layer, &LayerReport::name);
    const TensorInfo* weight = floats.find(entry.layer + ".weight");
    if (row == report.layers.end() || weight == nullptr || !is_floating(weight->dtype)) continue;
    const LinearParams params = read_layer(quantized, entry);
    if (weight->shape != Shape{params.plan.n, params.plan.k}) continue;
    const Tensor w = floats.read(weight->name);
    add_weight_errors(w, params, *row, ctx);
    const InputStatistics* input = stats ? stats->of_linear(entry.layer) : nullptr;
    if (input != nullptr && input->k == params.plan.k && !input->tokens.empty()) {
      add_output_errors(*entry.contract, params, *input, w, policy, *row, ctx);
    }
    floats.release(weight->name);
    release_layer(quantized, entry);
  }
}

}  // namespace mezzotint
