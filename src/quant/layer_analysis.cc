#include "quant/layer_analysis.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "quant/attention_file.h"
#include "quant/calibrator.h"
#include "quant/export_plan.h"
#include "quant/output_errors.h"
#include "quant/statistics_check.h"
#include "quant/written_layer.h"

namespace mezzotint {
namespace {

// One algorithm for all layers.
class Analyzer {
 public:
  Analyzer(const WeightStore& source, const ExportOptions& options, const ExecContext& ctx)
      : source_(source),
        options_(options),
        ctx_(ctx),
        plan_(plan_export(source, options)),
        calibrator_(source, options_.calibration, plan_.quantized, plan_.write_options, ctx) {
    const bool by_step = std::ranges::any_of(plan_.quantized, [](const auto& entry) {
      return entry.second.algorithm->contract->mode == ActivationMode::kPolicy;
    });
    if (!by_step) return;
    policy_ = options_.timestep_policy ? *options_.timestep_policy : calibrator_.timestep_policy();
  }

  const ExportPlan& plan() const { return plan_; }

  LayerChoice choice(const SelectedLayer& layer) {
    const InputStatistics& input = calibrator_.input_of(layer).statistics();
    const FloatLayer floats = float_layer(source_, layer);
    const WrittenLayer written = write_and_read_back(floats, layer, plan_.write_options,
                                                     options_.calibration, &calibrator_, ctx_);
    LayerChoice choice;
    for (const NamedTensor& tensor : written.tensors) choice.bytes += tensor.tensor.byte_size();
    const OutputErrors errors = output_errors(*layer.algorithm->contract, written.params, input,
                                              floats.weight, policy_, ctx_);
    choice.error = errors.error;
    choice.cosine = errors.cosine;
    source_.release(layer.name + ".weight");
    return choice;
  }

 private:
  const WeightStore& source_;
  const ExportOptions options_;
  const ExecContext& ctx_;
  ExportPlan plan_;
  Calibrator calibrator_;
  TimestepPolicy policy_;
};

using LayersByName = std::map<std::string, LayerAnalysis>;

LayerAnalysis& known_layer(const LayerReport& row, LayersByName& layers) {
  LayerAnalysis& layer = layers[row.name];
  layer.name = row.name;
  layer.n = row.out_features;
  layer.k = row.in_features;
  layer.float_bytes = row.bytes_before;
  return layer;
}

// In the order of the file.
std::vector<LayerAnalysis> in_order(const ExportPlan& plan, LayersByName layers) {
  std::vector<LayerAnalysis> ordered;
  for (const LayerReport& row : plan.report.layers) {
    const auto found = layers.find(row.name);
    if (found != layers.end()) ordered.push_back(std::move(found->second));
  }
  return ordered;
}

void check(const ExportOptions& options, const std::vector<std::string>& algorithms) {
  if (options.calibration.statistics.empty()) {
    throw Error(ErrorCode::kUsage, "errors of outputs need statistics",
                {.expected = "--stats FILE", .found = "none", .fix = "mezzotint collect"});
  }
  for (const Rule& rule : options.rules) {
    if (is_float_label(rule.algorithm)) continue;
    throw Error(ErrorCode::kUsage, "a rule chooses what the analysis is to choose",
                {.expected = "rules that keep layers float",
                 .found = fmt::format("{}={}", rule.pattern, rule.algorithm)});
  }
  if (!algorithms.empty()) return;
  throw Error(ErrorCode::kUsage, "no algorithm to analyze",
              {.expected = "one or more", .found = "none", .fix = "mezzotint list-algorithms"});
}

// Without the options that are of other algorithms.
ExportOptions of_algorithm(ExportOptions options, const std::string& algorithm) {
  const AlgorithmRow& row = served_algorithm(algorithm);
  options.algorithm = algorithm;
  if (!has_groups(row)) options.group_size = 0;
  if (!row.parameters.low_rank) options.svd_rank = 0;
  return options;
}

std::vector<AttentionAnalysis> attentions_of(const WeightStore& source, ExportOptions options,
                                             const std::string& algorithm) {
  if (options.attentions.empty()) return {};
  options = of_algorithm(std::move(options), algorithm);
  const Statistics statistics = read_statistics_of(source, options.calibration);
  std::vector<AttentionAnalysis> attentions;
  for (const SelectedAttention& selected : plan_export(source, options).attentions) {
    AttentionAnalysis& attention = attentions.emplace_back();
    attention.name = selected.name;
    attention.algorithm = selected.algorithm->canonical;
    attention.head_dim = selected.head_dim;
    if (const AttentionStatistics* measured = measured_attention(statistics, selected)) {
      attention.error = measured->error();
    }
    for (const PlannedTensor& rotation :
         plan_attention_tensors(*selected.algorithm, selected.name, selected.head_dim)) {
      attention.bytes += byte_count(rotation.tensor.dtype, rotation.tensor.shape);
    }
  }
  return attentions;
}

}  // namespace

double LayerChoice::sqnr_db() const { return mezzotint::sqnr_db(error); }

const LayerChoice* choice_of(const LayerAnalysis& layer, size_t algorithm) {
  const auto found = std::ranges::find(layer.choices, algorithm, &LayerChoice::algorithm);
  return found == layer.choices.end() ? nullptr : &*found;
}

ModelAnalysis analyze_layers(
    const WeightStore& source, const ExportOptions& options,
    const std::vector<std::string>& algorithms, const ExecContext& ctx,
    const std::function<void(double done, const std::string& layer)>& progress) {
  check(options, algorithms);
  ModelAnalysis analysis = {.algorithms = {},
                            .layers = {},
                            .attentions = attentions_of(source, options, algorithms.front()),
                            .float_bytes = source.total_bytes()};
  LayersByName layers;
  double done = 0;
  for (const std::string& name : algorithms) {
    const size_t number = analysis.algorithms.size();
    analysis.algorithms.emplace_back(served_algorithm(name).canonical);
    ExportOptions how = of_algorithm(options, name);
    how.attentions.clear();
    Analyzer analyzer(source, how, ctx);
    const auto& quantized = analyzer.plan().quantized;
    for (const LayerReport& row : analyzer.plan().report.layers) {
      LayerAnalysis& layer = known_layer(row, layers);
      layer.reason = row.reason;
      if (!row.reason.empty()) continue;
      LayerChoice choice = analyzer.choice(quantized.at(row.name + ".weight"));
      choice.algorithm = number;
      layer.choices.push_back(choice);
      done += 1.0 / static_cast<double>(algorithms.size() * quantized.size());
      if (progress) progress(done, row.name);
    }
    if (number + 1 == algorithms.size()) {
      analysis.layers = in_order(analyzer.plan(), std::move(layers));
    }
  }
  for (LayerAnalysis& layer : analysis.layers) {
    if (!layer.choices.empty()) layer.reason.clear();
  }
  return analysis;
}

std::vector<const LayerAnalysis*> ranked(const ModelAnalysis& analysis, size_t algorithm) {
  std::vector<const LayerAnalysis*> layers;
  for (const LayerAnalysis& layer : analysis.layers) {
    if (choice_of(layer, algorithm) != nullptr) layers.push_back(&layer);
  }
  // Equal ones in the order of the file.
  std::ranges::sort(layers, [&](const LayerAnalysis* a, const LayerAnalysis* b) {
    const double x = choice_of(*a, algorithm)->error, y = choice_of(*b, algorithm)->error;
    return x != y ? x > y : a < b;
  });
  return layers;
}

}  // namespace mezzotint
