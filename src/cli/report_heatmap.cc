#include "cli/report_heatmap.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "cli/report_page.h"

namespace mezzotint::cli {
namespace {

// Colour runs from full (at or below) to none (at or above): 15 dB is visible damage, 50 dB is the
// rounding of int8.
constexpr double kWorstDb = 15;
constexpr double kBestDb = 50;
constexpr double kWhiteTextShare = 0.55;

struct Place {
  std::string prefix;
  int64_t block = 0;
  std::string role;
};

std::optional<Place> place_of(std::string_view name) {
  for (size_t begin = name.find('.'); begin != std::string_view::npos;
       begin = name.find('.', begin + 1)) {
    int64_t block = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + begin + 1, end, block);
    if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != '.') continue;
    return Place{.prefix = std::string(name.substr(0, begin)),
                 .block = block,
                 .role = std::string(parsed.ptr + 1, end)};
  }
  return std::nullopt;
}

// The blocks of one prefix.
struct HeatMap {
  std::string prefix;
  std::vector<std::string> roles;  // in order of appearance
  std::vector<int64_t> blocks;     // rising
  std::map<std::pair<std::string, int64_t>, const LayerReport*> cells;
};

std::vector<HeatMap> heat_maps(const Report& report) {
  std::vector<HeatMap> maps;
  for (const LayerReport& layer : report.layers) {
    const std::optional<Place> place = place_of(layer.name);
    if (!place) continue;
    auto map = std::ranges::find(maps, place->prefix, &HeatMap::prefix);
    if (map == maps.end()) map = maps.insert(maps.end(), HeatMap{place->prefix, {}, {}, {}});
    if (std::ranges::find(map->roles, place->role) == map->roles.end()) {
      map->roles.push_back(place->role);
    }
    if (std::ranges::find(map->blocks, place->block) == map->blocks.end()) {
      map->blocks.push_back(place->block);
    }
    map->cells[{place->role, place->block}] = &layer;
  }
  for (HeatMap& map : maps) std::ranges::sort(map.blocks);
  return maps;
}

std::string heat_cell(const HeatMap& map, const std::string& role, int64_t block) {
  const auto found = map.cells.find({role, block});
  if (found == map.cells.end()) return "<td class=\"gap\"></td>";
  const LayerReport& layer = *found->second;
  const std::string title = html_escaped(layer.name + ": " + layer.algorithm);
  if (layer.weight_sqnr_db == 0) {
    return fmt::format("<td class=\"kept\" title=\"{}\">{}</td>", title,
                       layer.algorithm == "FLOAT" ? "float" : "");
  }
  const double heat = std::clamp((kBestDb - layer.weight_sqnr_db) / (kBestDb - kWorstDb), 0.0, 1.0);
  return fmt::format("<td{} title=\"{}\" style=\"--h:{:.0f}%\">{:.1f}</td>",
                     heat > kWhiteTextShare ? " class=\"hot\"" : "", title, 100 * heat,
                     layer.weight_sqnr_db);
}

std::string map_html(const HeatMap& map) {
  std::string html = fmt::format("<div><h3>{}</h3><table class=\"heat\"><thead><tr><th></th>",
                                 html_escaped(map.prefix));
  for (const int64_t block : map.blocks) html += fmt::format("<th>{}</th>", block);
  html += "</tr></thead><tbody>";
  for (const std::string& role : map.roles) {
    html += fmt::format("<tr><th>{}</th>", html_escaped(role));
    for (const int64_t block : map.blocks) html += heat_cell(map, role, block);
    html += "</tr>";
  }
  return html + "</tbody></table></div>";
}

}  // namespace

std::string heatmap_html(const Report& report) {
  const bool any_known = std::ranges::any_of(
      report.layers, [](const LayerReport& layer) { return layer.weight_sqnr_db != 0; });
  const std::vector<HeatMap> maps = heat_maps(report);
  if (!any_known || maps.empty()) return "";
  std::string html = "<div class=\"maps\">";
  for (const HeatMap& map : maps) html += map_html(map);
  return html + "</div>";
}

}  // namespace mezzotint::cli
