#include "quant/layer_choice.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/glob.h"
#include "format/writer_layout.h"
#include "mezzotint/error.h"
#include "quant/export_plan.h"
#include "solve/assignment.h"

namespace mezzotint {
namespace {

constexpr int kHeaderTries = 16;  // the header depends on the choice, a little
constexpr int64_t kHeaderSlack = 1024;
constexpr int kCurvePoints = 24;

// Per layer its choices, then float.
AssignmentMenu menu_of(const ModelAnalysis& analysis) {
  AssignmentMenu menu;
  for (const LayerAnalysis& layer : analysis.layers) {
    auto& options = menu.emplace_back();
    for (const LayerChoice& choice : layer.choices) options.push_back({choice.bytes, choice.error});
    options.push_back({layer.float_bytes, 0.0});
  }
  return menu;
}

// Every algorithm for all layers that may have it, and float for the others; then float for all.
std::vector<Assignment> uniform_assignments(const ModelAnalysis& analysis) {
  std::vector<Assignment> all;
  for (size_t a = 0; a <= analysis.algorithms.size(); ++a) {
    Assignment& uniform = all.emplace_back();
    for (const LayerAnalysis& layer : analysis.layers) {
      const LayerChoice* choice = choice_of(layer, a);
      uniform.push_back(choice == nullptr ? layer.choices.size()
                                          : static_cast<size_t>(choice - layer.choices.data()));
    }
  }
  return all;
}

int64_t other_bytes(const ModelAnalysis& analysis) {
  int64_t bytes = analysis.float_bytes;
  for (const LayerAnalysis& layer : analysis.layers) bytes -= layer.float_bytes;
  return bytes;
}

int64_t least_bytes(const AssignmentMenu& menu) {
  int64_t bytes = 0;
  for (const auto& options : menu) {
    bytes += std::ranges::min_element(options, {}, &AssignmentOption::bytes)->bytes;
  }
  return bytes;
}

// What is said of a layer that gets `choice`, or stays float.
std::string reason_for(const ModelAnalysis& analysis, const LayerAnalysis& layer,
                       const LayerChoice* choice, const std::string& aim) {
  if (choice != nullptr) return fmt::format("{:.1f} dB; {}", choice->sqnr_db(), aim);
  if (layer.choices.empty()) return layer.reason;
  const auto best = std::ranges::min_element(layer.choices, {}, &LayerChoice::error);
  return fmt::format("{}; {} would have {:.1f} dB", aim, analysis.algorithms[best->algorithm],
                     best->sqnr_db());
}

template <typename Predicate>
bool any_rule(const std::vector<Rule>& rules, Predicate fits) {
  return std::ranges::any_of(rules, [&](const Rule& rule) {
    const AlgorithmRow* row = find_algorithm(rule.algorithm);
    return row != nullptr && fits(*row);
  });
}

// Of the files that an export with these rules writes.
int64_t file_bytes(const WeightStore& source, ExportOptions options,
                   const std::vector<Rule>& rules) {
  options = with_rules(std::move(options), rules);
  ExportPlan plan = plan_export(source, options);
  const WriterLayout layout = plan_layout("weights.safetensors", std::move(plan.tensors),
                                          {.metadata = metadata_of(source),
                                           .max_shard_bytes = options.max_shard_bytes,
                                           .resume = false});
  int64_t bytes = 0;
  for (const ShardLayout& shard : layout.shards) bytes += shard.file_bytes;
  return bytes;
}

ModelChoice choice_from(const WeightStore& source, const ExportOptions& options,
                        const ModelAnalysis& analysis, const Assignment& chosen,
                        const std::string& aim) {
  ModelChoice result;
  bool any = false;
  for (size_t i = 0; i < analysis.layers.size(); ++i) {
    const LayerAnalysis& layer = analysis.layers[i];
    const bool is_float = chosen[i] == layer.choices.size();
    const LayerChoice* choice = is_float ? nullptr : &layer.choices[chosen[i]];
    any = any || choice != nullptr;
    result.algorithm.push_back(is_float ? analysis.algorithms.size() : choice->algorithm);
    result.error += is_float ? 0 : choice->error;
    result.rules.push_back(
        {.pattern = literal_pattern(layer.name),
         .algorithm = is_float ? "float" : analysis.algorithms[choice->algorithm],
         .reason = reason_for(analysis, layer, choice, aim)});
  }
  // An export that quantizes nothing is no export; its size is the source's.
  result.bytes = any ? file_bytes(source, options, result.rules) : analysis.float_bytes;
  return result;
}

[[noreturn]] void too_small(const ModelAnalysis& analysis, const AssignmentMenu& menu,
                            int64_t overhead, int64_t target) {
  const int64_t least = other_bytes(analysis) + overhead + least_bytes(menu);
  throw Error(
      ErrorCode::kUsage, "the model does not become that small",
      {.expected = fmt::format("a target of at least {} bytes with these algorithms", least),
       .found = fmt::format("{} bytes", target),
       .fix = "add a smaller algorithm, or quantize layers that are excluded"});
}

}  // namespace

ExportOptions with_rules(ExportOptions options, const std::vector<Rule>& rules) {
  options.algorithm.clear();
  options.rules = rules;
  if (!any_rule(rules, has_groups)) options.group_size = 0;
  if (!any_rule(rules, [](const AlgorithmRow& row) { return row.parameters.low_rank; })) {
    options.svd_rank = 0;
  }
  return options;
}

ModelChoice choose_by_size(const WeightStore& source, const ExportOptions& options,
                           const ModelAnalysis& analysis, int64_t target) {
  const AssignmentMenu menu = menu_of(analysis);
  const std::vector<Assignment> uniform = uniform_assignments(analysis);
  const std::string aim = fmt::format("chosen for a size of {} bytes", target);
  int64_t overhead = 0;  // of headers
  for (int attempt = 0; attempt < kHeaderTries; ++attempt) {
    const Assignment chosen =
        assign_options(menu, target - other_bytes(analysis) - overhead, uniform);
    if (chosen.empty()) break;
    ModelChoice result = choice_from(source, options, analysis, chosen, aim);
    if (result.bytes <= target) return result;
    overhead += result.bytes - target + (attempt == 0 ? 0 : kHeaderSlack);
  }
  too_small(analysis, menu, overhead, target);
}

ModelChoice choose_by_quality(const WeightStore& source, const ExportOptions& options,
                              const ModelAnalysis& analysis, double least_db) {
  Assignment chosen;
  for (const LayerAnalysis& layer : analysis.layers) {
    size_t best = layer.choices.size();
    for (size_t i = 0; i < layer.choices.size(); ++i) {
      if (layer.choices[i].sqnr_db() < least_db) continue;
      if (best == layer.choices.size() || layer.choices[i].bytes < layer.choices[best].bytes) {
        best = i;
      }
    }
    chosen.push_back(best);
  }
  return choice_from(source, options, analysis, chosen,
                     fmt::format("at least {:g} dB are asked for", least_db));
}

std::vector<SizePoint> uniform_points(const ModelAnalysis& analysis) {
  const AssignmentMenu menu = menu_of(analysis);
  const std::vector<Assignment> uniform = uniform_assignments(analysis);
  const int64_t rest = other_bytes(analysis);
  std::vector<SizePoint> points;
  for (size_t a = 0; a < analysis.algorithms.size(); ++a) {
    points.push_back({analysis.algorithms[a], rest + assigned_bytes(menu, uniform[a]),
                      assigned_error(menu, uniform[a])});
  }
  return points;
}

std::vector<SizePoint> size_points(const ModelAnalysis& analysis) {
  const AssignmentMenu menu = menu_of(analysis);
  const std::vector<Assignment> uniform = uniform_assignments(analysis);
  const int64_t rest = other_bytes(analysis);
  std::vector<SizePoint> points = uniform_points(analysis);
  const int64_t least = least_bytes(menu);
  const int64_t most = assigned_bytes(menu, uniform.back());
  std::set<int64_t> seen;
  for (int i = 0; i < kCurvePoints; ++i) {
    const Assignment chosen =
        assign_options(menu, least + (most - least) * i / kCurvePoints, uniform);
    const int64_t bytes = rest + assigned_bytes(menu, chosen);
    if (!seen.insert(bytes).second) continue;
    points.push_back({"", bytes, assigned_error(menu, chosen)});
  }
  return points;
}

}  // namespace mezzotint
