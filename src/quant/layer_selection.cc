#include "quant/layer_selection.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kWeightSuffix = ".weight";

struct Decision {
  const AlgorithmRow* algorithm = nullptr;  // null: float
  std::string reason;
};

struct CompiledRule {
  NamePattern pattern;
  std::vector<NamePattern> except{};
  Decision decision;
  std::string text;  // as the user wrote it, for messages
  bool matched = false;
  bool applied = false;
};

const AlgorithmRow* algorithm_or_float(const std::string& name, std::string_view option) {
  if (is_float_label(name)) return nullptr;
  return &served_algorithm(name,
                           {.expected = fmt::format("an algorithm for {}, or float", option)});
}

std::vector<CompiledRule> compile_exclusions(const ExportOptions& options) {
  std::vector<CompiledRule> rules;
  for (const std::string& pattern : options.exclude) {
    const std::string text = fmt::format("--exclude {}", pattern);
    rules.push_back({.pattern = NamePattern(pattern),
                     .decision = {.algorithm = nullptr, .reason = text},
                     .text = text});
  }
  return rules;
}

std::vector<CompiledRule> compile_rules(const ExportOptions& options) {
  std::vector<CompiledRule> rules;
  for (const Rule& rule : options.rules) {
    const std::string text = fmt::format("--rule {}={}", rule.pattern, rule.algorithm);
    Decision decision = {.algorithm = algorithm_or_float(rule.algorithm, text), .reason = {}};
    if (decision.algorithm == nullptr) decision.reason = rule.reason.empty() ? text : rule.reason;
    rules.push_back({.pattern = NamePattern(rule.pattern),
                     .except = {rule.except.begin(), rule.except.end()},
                     .decision = std::move(decision),
                     .text = text});
  }
  return rules;
}

bool matches_any(const std::vector<NamePattern>& patterns, const std::string& name) {
  return std::ranges::any_of(patterns, [&](const NamePattern& p) { return p.matches(name); });
}

const Decision* first_match(std::vector<CompiledRule>& rules, const std::string& layer,
                            const Decision* decided) {
  for (CompiledRule& rule : rules) {
    if (!rule.pattern.matches(layer)) continue;
    rule.matched = true;
    if (matches_any(rule.except, layer)) continue;
    if (decided != nullptr) continue;
    rule.applied = true;
    decided = &rule.decision;
  }
  return decided;
}

// Preset rules apply to layers that no option names.
Decision default_decision(const SelectedLayer& layer, const AlgorithmRow* algorithm,
                          const std::optional<Preset>& preset) {
  if (algorithm == nullptr) return {.algorithm = nullptr, .reason = "no rule names it"};
  if (preset) {
    const bool quantizes_activations = algorithm->contract->mode != ActivationMode::kFloat;
    for (const KeptLayers& kept : preset->kept) {
      if (kept.when == KeepWhen::kQuantizedActivations && !quantizes_activations) continue;
      if (!NamePattern(kept.pattern).matches(layer.name)) continue;
      return {.algorithm = nullptr, .reason = fmt::format("preset {}: {}", preset->name, kept.why)};
    }
  }
  if (layer.k < kMinInFeatures) {
    return {.algorithm = nullptr,
            .reason = fmt::format("K = {} is below {}", layer.k, kMinInFeatures)};
  }
  return {.algorithm = algorithm, .reason = {}};
}

std::vector<SelectedLayer> candidates(const WeightStore& source) {
  std::vector<SelectedLayer> layers;
  for (const TensorInfo& tensor : source.tensors()) {
    if (!tensor.name.ends_with(kWeightSuffix) || tensor.name.size() == kWeightSuffix.size() ||
        tensor.shape.size() != 2 || tensor.bytes == 0 || !is_floating(tensor.dtype)) {
      continue;
    }
    SelectedLayer layer;
    layer.name = tensor.name.substr(0, tensor.name.size() - kWeightSuffix.size());
    layer.n = tensor.shape[0];
    layer.k = tensor.shape[1];
    const TensorInfo* bias = source.find(layer.name + ".bias");
    layer.has_bias = bias != nullptr && is_floating(bias->dtype) && bias->shape == Shape{layer.n};
    layers.push_back(std::move(layer));
  }
  return layers;
}

void check_matched(const std::vector<CompiledRule>& rules, const LayerSelection& selection) {
  std::vector<std::string_view> names;
  for (const SelectedLayer& layer : selection.layers) names.push_back(layer.name);
  for (const SelectedAttention& attention : selection.attentions) names.push_back(attention.name);
  for (const CompiledRule& rule : rules) {
    if (rule.matched) continue;
    throw Error(ErrorCode::kUsage, fmt::format("{} matches no layer", rule.text),
                {.expected = fmt::format("a pattern over the names of {} layers", names.size()),
                 .found = rule.pattern.text(),
                 .fix = did_you_mean(nearest_names(rule.pattern.text(), names))});
  }
}

void note_unused(const std::vector<CompiledRule>& rules, LayerSelection& selection) {
  for (const CompiledRule& rule : rules) {
    if (rule.applied) continue;
    selection.notes.push_back(
        fmt::format("{} never applied: what stands before it names the same layers", rule.text));
  }
}

}  // namespace

LayerSelection select_layers(const WeightStore& source, const ExportOptions& options,
                             const std::optional<Preset>& preset) {
  return select_layers({.layers = candidates(source),
                        .attentions = select_attentions(source, options, preset),
                        .notes = {}},
                       options, preset);
}

LayerSelection select_layers(LayerSelection selection, const ExportOptions& options,
                             const std::optional<Preset>& preset) {
  const AlgorithmRow* algorithm = nullptr;
  if (!options.algorithm.empty()) algorithm = algorithm_or_float(options.algorithm, "--algo");
  std::vector<CompiledRule> exclusions = compile_exclusions(options);
  std::vector<CompiledRule> rules = compile_rules(options);
  for (SelectedLayer& layer : selection.layers) {
    const Decision* named =
        first_match(rules, layer.name, first_match(exclusions, layer.name, nullptr));
    const Decision decision =
        named != nullptr ? *named : default_decision(layer, algorithm, preset);
    layer.algorithm = decision.algorithm;
    layer.reason = decision.reason;
  }
  for (SelectedAttention& attention : selection.attentions) {
    const Decision* excluded = first_match(exclusions, attention.name, nullptr);
    if (excluded == nullptr) continue;
    attention.algorithm = nullptr;
    attention.reason = excluded->reason;
  }
  check_matched(exclusions, selection);
  check_matched(rules, selection);
  note_unused(exclusions, selection);
  note_unused(rules, selection);
  return selection;
}

int64_t branch_rank(int64_t svd_rank) {
  return svd_rank == 0 ? WriteOptions::kDefaultRank : svd_rank;
}

void no_low_rank_branch(int64_t svd_rank) {
  throw Error(ErrorCode::kUsage, "no layer has an algorithm with a low-rank branch",
              {.expected = "no rank, or an algorithm such as W4A4_MXFP4_SVD",
               .found = fmt::format("rank {}", svd_rank)});
}

}  // namespace mezzotint
