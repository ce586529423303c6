#include "cli/report_layers.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/layer_summary.h"
#include "cli/report_charts.h"
#include "cli/report_heatmap.h"
#include "cli/report_page.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

// A number of a layer, and how it reads. Not shown where no layer has it.
struct NumberColumn {
  const char* title;
  double LayerReport::* value;
  double LayerReport::* known;  // 0 where the value is unknown
  std::string (*text)(double value);
};

std::string one_digit(double value) { return fmt::format("{:.1f}", value); }
std::string percent(double value) { return fmt::format("{:.2f}", 100 * value); }
std::string cosine(double value) { return fmt::format("{:.5f}", value); }

constexpr NumberColumn kNumbers[] = {
    {"weight SQNR dB", &LayerReport::weight_sqnr_db, &LayerReport::weight_sqnr_db, &one_digit},
    {"cosine", &LayerReport::weight_cosine, &LayerReport::weight_cosine, &cosine},
    {"output SQNR dB", &LayerReport::output_sqnr_db, &LayerReport::output_sqnr_db, &one_digit},
    {"output cosine", &LayerReport::output_cosine, &LayerReport::output_cosine, &cosine},
    {"clipped %", &LayerReport::clip_share, &LayerReport::weight_cosine, &percent},
    {"zero %", &LayerReport::zero_share, &LayerReport::weight_cosine, &percent},
    {"amax/rms", &LayerReport::outlier_ratio, &LayerReport::weight_cosine, &one_digit},
};

std::vector<const NumberColumn*> known_numbers(const Report& report) {
  std::vector<const NumberColumn*> columns;
  for (const NumberColumn& column : kNumbers) {
    const bool any = std::ranges::any_of(
        report.layers, [&](const LayerReport& layer) { return layer.*column.known != 0; });
    if (any) columns.push_back(&column);
  }
  return columns;
}

std::string layer_row(const LayerReport& layer, const std::vector<const NumberColumn*>& numbers) {
  const bool is_float = layer.algorithm == "FLOAT";
  std::string html = "<tr>" + cell_html(layer.name);
  html +=
      fmt::format("<td class=\"n\" data-v=\"{}\">{} &times; {}</td>",
                  layer.out_features * layer.in_features, layer.out_features, layer.in_features);
  html += fmt::format("<td><span class=\"tag{}\">{}</span></td>", is_float ? " float" : "",
                      html_escaped(layer.algorithm));
  for (const NumberColumn* column : numbers) {
    const double value = layer.*column->value;
    html += layer.*column->known == 0 ? std::string("<td class=\"n\" data-v=\"\"></td>")
                                      : value_cell_html(column->text(value), value);
  }
  html += value_cell_html(human_bytes(layer.bytes_before), static_cast<double>(layer.bytes_before));
  html += value_cell_html(human_bytes(layer.bytes_after), static_cast<double>(layer.bytes_after));
  return html + cell_html(layer.reason) + "</tr>";
}

std::string table_html(const Report& report) {
  const std::vector<const NumberColumn*> numbers = known_numbers(report);
  std::vector<Column> columns = {{"layer"}, {"out × in", Align::kRight}, {"algorithm"}};
  for (const NumberColumn* column : numbers) columns.push_back({column->title, Align::kRight});
  columns.push_back({"before", Align::kRight});
  columns.push_back({"after", Align::kRight});
  columns.push_back({"why kept float"});
  std::string html =
      "<div class=\"find\"><input type=\"search\" placeholder=\"filter: name, algorithm or "
      "reason\" aria-label=\"filter layers\"><span></span></div>"
      "<div class=\"scroll\"><table class=\"layers\">" +
      head_row_html(columns) + "<tbody>";
  for (const LayerReport& layer : report.layers) html += layer_row(layer, numbers);
  return html + "</tbody></table></div>";
}

std::string facts_of(const Report& report) {
  std::string facts = fmt::format("{} quantized, {} kept float", report.quantized(), report.kept());
  if (const LayerReport* worst = worst_layer(report)) {
    facts += fmt::format(", worst {} at {:.1f} dB", worst->name, worst->weight_sqnr_db);
  }
  return facts;
}

}  // namespace

std::string layer_details_html(std::string_view label, const Report& report, Fold fold) {
  return fmt::format(
      "<details class=\"card\"{}><summary>{}<span>{}</span></summary>{}{}{}</details>",
      fold == Fold::kOpen ? " open" : "", html_escaped(label), html_escaped(facts_of(report)),
      heatmap_html(report), step_chart(report), table_html(report));
}

std::string_view layer_hint() {
  return "Click on a column to sort, type to filter. SQNR is 10&thinsp;log<sub>10</sub>(&Sigma;"
         "w&sup2; / &Sigma;(w&minus;w&prime;)&sup2;), of the weights or of the outputs on the "
         "collected sample: higher is better, 6 dB are one bit. Clipped: weights beyond the ends "
         "of their scale; amax/rms: the largest weight over their root mean square. In the maps a "
         "column is a block and a strong colour a layer to look at.";
}

}  // namespace mezzotint::cli
