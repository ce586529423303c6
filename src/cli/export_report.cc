#include "cli/export_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/layer_summary.h"
#include "cli/report_charts.h"
#include "cli/report_layers.h"
#include "cli/report_page.h"

namespace mezzotint::cli {
namespace {

// The mean error of a layer, in dB.
double mean_db(const ExportReport& report, const SizePoint& point) {
  const auto layers = static_cast<double>(std::max<int64_t>(report.layers_analyzed, 1));
  return -10 * std::log10(point.error / layers);
}

std::string size_section(const ExportReport& report) {
  std::vector<ChartPoint> points;
  const auto add = [&](const SizePoint& point, PointKind kind, const std::string& label) {
    if (point.error <= 0) return;  // all float
    points.push_back({.label = label,
                      .x = static_cast<double>(point.bytes),
                      .y = mean_db(report, point),
                      .kind = kind});
  };
  for (const SizePoint& point : report.sizes) {
    add(point, point.label.empty() ? PointKind::kCurve : PointKind::kNamed, point.label);
  }
  if (report.chosen) add(*report.chosen, PointKind::kChosen, "chosen");
  return section_html("Error against bytes",
                      "Mean error of the layers' outputs over the size of the model. The line is "
                      "what a choice per layer reaches, a ring one algorithm for all layers that "
                      "may have it.",
                      size_chart(points, "SQNR of the mean error, dB"));
}

NamedTexts settings_of(const ExportReport& report) {
  const Report& r = report.report;
  return {{"model", report.source},
          {"before", human_bytes(r.bytes_before)},
          {"after", human_bytes(r.bytes_after)},
          {"quantized", plural(r.quantized(), "layer")},
          {"kept float", std::to_string(r.kept())}};
}

std::string number_text(double value, double known, std::string_view format) {
  return known == 0 ? "" : fmt::format(fmt::runtime(format), value);
}

}  // namespace

std::string export_verdict(const ExportReport& report) {
  const Report& r = report.report;
  const double share = 100.0 * static_cast<double>(r.bytes_after) /
                       static_cast<double>(std::max<int64_t>(r.bytes_before, 1));
  std::string text =
      fmt::format("{}: {} in {:.0f} % of the bytes, {} quantized, {} kept float", report.label,
                  human_bytes(r.bytes_after), share, plural(r.quantized(), "layer"), r.kept());
  if (const LayerReport* worst = worst_layer(r)) {
    text += fmt::format("; worst weights: {} at {:.1f} dB", worst->name, worst->weight_sqnr_db);
  }
  return text + ".";
}

std::string export_html(const ExportReport& report) {
  const NamedTexts settings = settings_of(report);
  return page_html({.title = "Quantized model",
                    .verdict = export_verdict(report),
                    .settings = settings,
                    .notes = report.report.notes},
                   size_section(report) +
                       section_html("Layers", layer_hint(),
                                    layer_details_html(report.label, report.report, Fold::kOpen)) +
                       reproduce_section(report.command, settings, report.environment));
}

std::string export_json(const ExportReport& report) {
  auto document = nlohmann::ordered_json::parse(to_json(report.report));
  if (!report.sizes.empty()) {
    auto sizes = nlohmann::ordered_json::array();
    for (const SizePoint& point : report.sizes) {
      sizes.push_back({{"algorithm", point.label}, {"bytes", point.bytes}, {"error", point.error}});
    }
    document["sizes"] = std::move(sizes);
  }
  if (report.chosen) {
    document["chosen"] = {{"bytes", report.chosen->bytes}, {"error", report.chosen->error}};
  }
  return document.dump(2) + "\n";
}

TextTable report_table(const Report& report) {
  TextTable table{{{"layer"},
                   {"shape"},
                   {"algorithm"},
                   {"weight dB", Align::kRight},
                   {"output dB", Align::kRight},
                   {"cosine", Align::kRight},
                   {"clipped %", Align::kRight},
                   {"zero %", Align::kRight},
                   {"amax/rms", Align::kRight},
                   {"before", Align::kRight},
                   {"after", Align::kRight},
                   {"why kept float"}},
                  {}};
  for (const LayerReport& layer : report.layers) {
    const double known = layer.weight_sqnr_db;
    table.rows.push_back({layer.name, fmt::format("[{},{}]", layer.out_features, layer.in_features),
                          layer.algorithm, number_text(known, known, "{:.1f}"),
                          number_text(layer.output_sqnr_db, layer.output_sqnr_db, "{:.1f}"),
                          number_text(layer.weight_cosine, known, "{:.5f}"),
                          number_text(100 * layer.clip_share, known, "{:.2f}"),
                          number_text(100 * layer.zero_share, known, "{:.2f}"),
                          number_text(layer.outlier_ratio, known, "{:.1f}"),
                          human_bytes(layer.bytes_before), human_bytes(layer.bytes_after),
                          layer.reason});
  }
  return table;
}

std::string export_markdown(const ExportReport& report) {
  return fmt::format("{}\n\n```\n{}\n```\n\n{}", export_verdict(report), report.command,
                     to_markdown(report_table(report.report)));
}

std::optional<ReportWriter> report_writer(const std::filesystem::path& file) {
  const std::string extension = file.extension().string();
  if (extension == ".html" || extension == ".htm") return &export_html;
  if (extension == ".json") return &export_json;
  if (extension == ".md") return &export_markdown;
  return std::nullopt;
}

}  // namespace mezzotint::cli
