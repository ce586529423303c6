#include "cli/layer_summary.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/text.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {
namespace {

constexpr size_t kNamesShown = 3;

// What such a layer stores are no weights.
bool is_attention(const LayerReport& layer) {
  const AlgorithmRow* row = find_algorithm(layer.algorithm);
  return row != nullptr && row->attention != nullptr;
}

bool is_float(const LayerReport& layer) { return layer.algorithm == "FLOAT"; }

}  // namespace

const LayerReport* worst_layer(const Report& report) {
  const LayerReport* worst = nullptr;
  for (const LayerReport& layer : report.layers) {
    if (is_float(layer) || layer.weight_sqnr_db == 0) continue;
    if (worst == nullptr || layer.weight_sqnr_db < worst->weight_sqnr_db) worst = &layer;
  }
  return worst;
}

std::vector<KeptGroup> kept_by_reason(const Report& report) {
  std::vector<KeptGroup> groups;
  for (const LayerReport& layer : report.layers) {
    if (!is_float(layer)) continue;
    const std::string reason = layer.reason.empty() ? "no reason given" : layer.reason;
    auto group = std::ranges::find(groups, reason, &KeptGroup::reason);
    if (group == groups.end()) group = groups.insert(groups.end(), KeptGroup{reason, {}});
    group->layers.push_back(layer.name);
  }
  return groups;
}

std::vector<AlgorithmGroup> by_algorithm(const Report& report) {
  std::vector<AlgorithmGroup> groups;
  for (const LayerReport& layer : report.layers) {
    auto group = std::ranges::find(groups, layer.algorithm, &AlgorithmGroup::algorithm);
    if (group == groups.end()) {
      group = groups.insert(groups.end(), AlgorithmGroup{.algorithm = layer.algorithm});
    }
    group->layers += 1;
    if (!is_attention(layer)) group->weights += layer.out_features * layer.in_features;
    group->bytes_before += layer.bytes_before;
    group->bytes_after += layer.bytes_after;
  }
  return groups;
}

std::vector<std::string> kept_lines(const Report& report) {
  std::vector<std::string> lines;
  for (const KeptGroup& group : kept_by_reason(report)) {
    std::string names;
    for (size_t i = 0; i < std::min(kNamesShown, group.layers.size()); ++i) {
      names += (i == 0 ? "" : ", ") + printable(group.layers[i]);
    }
    if (group.layers.size() > kNamesShown) names += ", ...";
    const auto count = static_cast<int64_t>(group.layers.size());
    lines.push_back(fmt::format("kept   {} float: {} ({})", plural(count, "layer"),
                                printable(group.reason), names));
  }
  return lines;
}

TextTable layer_table(const Report& report) {
  TextTable table{{{"layer"},
                   {"shape"},
                   {"algorithm"},
                   {"SQNR dB", Align::kRight},
                   {"before", Align::kRight},
                   {"after", Align::kRight},
                   {"why kept float"}},
                  {}};
  for (const LayerReport& layer : report.layers) {
    const bool known = layer.weight_sqnr_db != 0;
    table.rows.push_back(
        {layer.name, fmt::format("[{},{}]", layer.out_features, layer.in_features), layer.algorithm,
         known ? fmt::format("{:.1f}", layer.weight_sqnr_db) : "-", human_bytes(layer.bytes_before),
         human_bytes(layer.bytes_after), layer.reason});
  }
  return table;
}

nlohmann::json report_json(const Report& report) { return nlohmann::json::parse(to_json(report)); }

}  // namespace mezzotint::cli
