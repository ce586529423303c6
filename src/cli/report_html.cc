#include "cli/report_html.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "cli/report_charts.h"
#include "cli/report_layers.h"
#include "cli/report_page.h"
#include "models/image_io.h"

namespace mezzotint::cli {
namespace {

// A cell with a bar below the text; share is clamped to 0 ... 1.
std::string bar_cell(std::string_view text, double share) {
  const double percent = std::isfinite(share) ? 100 * std::clamp(share, 0.0, 1.0) : 0.0;
  return fmt::format(
      "<td class=\"n\">{}<span class=\"bar\"><i style=\"width:{:.1f}%\"></i></span></td>",
      html_escaped(text), percent);
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

// --- the table
// ------------------------------------------------------------------------------------

std::string summary_row(const ComparisonReport& report, const FormReport& form,
                        const std::vector<std::string>& cells, bool is_best) {
  const FormReport& reference = report.reference;
  const auto bytes = [](int64_t n) { return static_cast<double>(n); };
  std::string html = is_best ? "<tr class=\"best\">" : "<tr>";
  html += cell_html(cells[0]);
  html += bar_cell(cells[1], share(bytes(form.file_bytes), bytes(reference.file_bytes)));
  html += bar_cell(cells[2], share(bytes(form.resident_bytes), bytes(reference.resident_bytes)));
  html += bar_cell(cells[3], share(form.step_seconds, reference.step_seconds));
  for (size_t i = 4; i < cells.size(); ++i) html += cell_html(cells[i], "n");
  return html + "</tr>";
}

std::string summary_section(const ComparisonReport& report) {
  const TextTable table = comparison_table(report);
  const FormReport* fastest = nullptr;
  for (const FormReport& form : report.forms) {
    if (fastest == nullptr || form.step_seconds < fastest->step_seconds) fastest = &form;
  }
  std::string html =
      "<section><h2>At a glance</h2><p class=\"hint\">Same prompts, same starting noise, same "
      "steps. PSNR and SSIM are against the images of the float model; resident is what the "
      "linear layers hold in memory. A shorter bar is better. Outlier: the same form of the same "
      "function with outlier channels, against the same images.</p>"
      "<div class=\"card\"><table class=\"summary\">";
  html += head_row_html(table.columns) + "<tbody>";
  html += summary_row(report, report.reference, table.rows[0], false);
  for (size_t i = 0; i < report.forms.size(); ++i) {
    html += summary_row(report, report.forms[i], table.rows[i + 1], &report.forms[i] == fastest);
  }
  return html + "</tbody></table></div></section>";
}

// --- images
// ---------------------------------------------------------------------------------------

std::string image_cell(const std::vector<Image>& images, size_t i, const std::string& alt,
                       const std::string& caption, std::string_view classes) {
  if (i >= images.size()) return "<td></td>";
  std::string html = fmt::format("<td class=\"{}\"><img loading=\"lazy\" alt=\"{}\" src=\"{}\">",
                                 classes, html_escaped(alt), png_data_uri(images[i]));
  if (!caption.empty()) html += fmt::format("<span class=\"cap\">{}</span>", html_escaped(caption));
  return html + "</td>";
}

const std::string& text_at(const std::vector<std::string>& texts, size_t i) {
  static const std::string kNone;
  return i < texts.size() ? texts[i] : kNone;
}

std::string image_row(const ComparisonReport& report, size_t i) {
  const std::string& prompt = report.prompts[i];
  const FormReport& reference = report.reference;
  std::string html = fmt::format("<tr><td class=\"p\">{}</td>", html_escaped(prompt));
  html += image_cell(reference.images, i, "float: " + prompt, text_at(reference.captions, i), "f");
  for (const FormReport& form : report.forms) {
    html += image_cell(form.images, i, form.label + ": " + prompt, text_at(form.captions, i), "f");
    html += image_cell(form.differences, i, "difference x 8", "", "d");
  }
  return html + "</tr>";
}

std::string image_section(const ComparisonReport& report) {
  if (report.prompts.empty()) return "";
  std::string html =
      "<section><h2>Images</h2><p class=\"hint\">Every row starts from the same noise. The "
      "difference to the float image is enlarged eight times; black is equal. Below an image: what "
      "the classifier sees. Point at an image to enlarge it.</p>"
      "<div class=\"card\"><table class=\"grid\"><thead><tr><th>prompt</th><th "
      "class=\"f\">float</th>";
  for (const FormReport& form : report.forms) {
    html += fmt::format("<th class=\"f\">{}</th><th>difference &times;8</th>",
                        html_escaped(form.label));
  }
  html += "</tr></thead><tbody>";
  for (size_t i = 0; i < report.prompts.size(); ++i) html += image_row(report, i);
  return html + "</tbody></table></div></section>";
}

// --- size and quality
// -----------------------------------------------------------------------------

std::string size_section(const ComparisonReport& report) {
  std::vector<ChartPoint> points;
  for (const FormReport& form : report.forms) {
    if (std::isinf(form.psnr_db)) continue;
    points.push_back({.label = form.label,
                      .x = static_cast<double>(form.file_bytes),
                      .y = form.psnr_db,
                      .kind = PointKind::kNamed});
  }
  return section_html("Error against bytes",
                      "PSNR of the images over the size of the weight files: up and to the left is "
                      "better, and a form below and to the right of another one has no place.",
                      size_chart(points, "PSNR dB"));
}

std::string layer_section(const ComparisonReport& report) {
  std::string content;
  for (const FormReport& form : report.forms) {
    content += layer_details_html(form.label, form.layers,
                                  &form == &report.forms.back() ? Fold::kOpen : Fold::kClosed);
  }
  return section_html("Layers", layer_hint(), content);
}

}  // namespace

std::string report_html(const ComparisonReport& report) {
  return page_html({.title = report.title,
                    .verdict = verdict(report),
                    .settings = report.settings,
                    .notes = report.notes},
                   summary_section(report) + image_section(report) + size_section(report) +
                       layer_section(report) +
                       reproduce_section(report.command, report.settings, report.environment));
}

}  // namespace mezzotint::cli
