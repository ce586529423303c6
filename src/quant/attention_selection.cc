#include "quant/attention_selection.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "mezzotint/error.h"
#include "quant/attention_file.h"

namespace mezzotint {
namespace {

using HeadDims = std::map<std::string, int64_t>;  // by name

std::set<std::string> modules_of(const WeightStore& source) {
  std::set<std::string> modules;
  for (const TensorInfo& tensor : source.tensors()) {
    for (size_t dot = tensor.name.find('.'); dot != std::string::npos;
         dot = tensor.name.find('.', dot + 1)) {
      std::string module = tensor.name.substr(0, dot);
      const bool is_linear = source.find(module + ".weight") != nullptr;
      if (!is_linear) modules.insert(std::move(module));
    }
  }
  return modules;
}

int64_t head_dim_of(const WeightStore& source, const AttentionLayers& known,
                    const std::string& name) {
  if (known.head_dim > 0) return known.head_dim;
  const std::string tensor = fmt::format("{}.{}", name, known.head_dim_of);
  const TensorInfo* info = source.find(tensor);
  if (info != nullptr && info->shape.size() == 1 && info->shape[0] > 0) return info->shape[0];
  throw Error(ErrorCode::kInput, "the head_dim of an attention is not known",
              {.layer = name,
               .tensor = tensor,
               .file = source.files().front().string(),
               .expected = "a vector of head_dim elements",
               .found = info == nullptr ? "no such tensor" : to_string(info->shape),
               .fix = "say it: --fa ALGO:PATTERN:HEAD_DIM"});
}

HeadDims known_attentions(const WeightStore& source, const std::set<std::string>& modules,
                          const std::optional<Preset>& preset) {
  HeadDims known;
  if (!preset) return known;
  for (const AttentionLayers& layers : preset->attentions) {
    const NamePattern pattern(layers.pattern);
    for (const std::string& name : modules) {
      if (pattern.matches(name)) known.emplace(name, head_dim_of(source, layers, name));
    }
  }
  return known;
}

std::string rule_text(const AttentionRule& rule) {
  std::string text = "--fa " + rule.algorithm;
  if (!rule.pattern.empty()) text += ":" + rule.pattern;
  if (rule.head_dim > 0) text += fmt::format(":{}", rule.head_dim);
  return text;
}

void require_head_dim(const AttentionRule& rule, const HeadDims& known) {
  if (rule.head_dim > 0 || !known.empty()) return;
  throw Error(ErrorCode::kUsage, "which modules are attentions?",
              {.expected = "ALGO:PATTERN:HEAD_DIM, as no preset fits the tensor names",
               .found = rule_text(rule),
               .fix = "for example --fa 'fp8_dynamic:blocks.*.attn:128'"});
}

// The attentions of one rule.
HeadDims named_attentions(const AttentionRule& rule, const std::set<std::string>& modules,
                          const HeadDims& known) {
  require_head_dim(rule, known);
  const NamePattern pattern(rule.pattern.empty() ? "*" : rule.pattern);
  const std::vector<NamePattern> except(rule.except.begin(), rule.except.end());
  HeadDims named;
  std::vector<std::string_view> candidates;
  const auto consider = [&](const std::string& name, int64_t head_dim) {
    candidates.push_back(name);
    const bool excepted =
        std::ranges::any_of(except, [&](const NamePattern& p) { return p.matches(name); });
    if (pattern.matches(name) && !excepted) named.emplace(name, head_dim);
  };
  if (rule.head_dim > 0) {
    for (const std::string& name : modules) consider(name, rule.head_dim);
  } else {
    for (const auto& [name, head_dim] : known) consider(name, head_dim);
  }
  if (!named.empty()) return named;
  throw Error(ErrorCode::kUsage, fmt::format("{} matches no attention", rule_text(rule)),
              {.expected = fmt::format("a pattern over the names of {} {}", candidates.size(),
                                       rule.head_dim > 0 ? "modules" : "attentions"),
               .found = rule.pattern,
               .fix = did_you_mean(nearest_names(rule.pattern, candidates))});
}

}  // namespace

std::vector<SelectedAttention> select_attentions(const WeightStore& source,
                                                 const ExportOptions& options,
                                                 const std::optional<Preset>& preset) {
  if (options.attentions.empty()) return {};
  const std::set<std::string> modules = modules_of(source);
  const HeadDims known = known_attentions(source, modules, preset);
  std::map<std::string, SelectedAttention> selected;
  for (const AttentionRule& rule : options.attentions) {
    const AlgorithmRow& row = served_attention(rule.algorithm);
    for (const auto& [name, head_dim] : named_attentions(rule, modules, known)) {
      selected.try_emplace(name, SelectedAttention{name, head_dim, &row, {}});
    }
  }
  for (const auto& [name, head_dim] : known) {
    selected.try_emplace(name, SelectedAttention{name, head_dim, nullptr, "no --fa names it"});
  }
  std::vector<SelectedAttention> attentions;
  for (auto& [name, attention] : selected) attentions.push_back(std::move(attention));
  return attentions;
}

}  // namespace mezzotint
