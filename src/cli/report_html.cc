#include "cli/report_html.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "cli/layer_summary.h"
#include "cli/report_heatmap.h"
#include "cli/text.h"
#include "mezzotint/version.h"
#include "models/image_io.h"

namespace mezzotint::cli {
namespace {

std::string cell(std::string_view text, std::string_view classes = "") {
  if (classes.empty()) return fmt::format("<td>{}</td>", html_escaped(text));
  return fmt::format("<td class=\"{}\">{}</td>", classes, html_escaped(text));
}

std::string head_row(const std::vector<Column>& columns) {
  std::string html = "<thead><tr>";
  for (const Column& column : columns) {
    html += fmt::format("<th{}>{}</th>", column.align == Align::kRight ? " class=\"n\"" : "",
                        html_escaped(column.title));
  }
  return html + "</tr></thead>";
}

// A cell with a bar below the text; share is clamped to 0 ... 1.
std::string bar_cell(std::string_view text, double share) {
  const double percent = std::isfinite(share) ? 100 * std::clamp(share, 0.0, 1.0) : 0.0;
  return fmt::format(
      "<td class=\"n\">{}<span class=\"bar\"><i style=\"width:{:.1f}%\"></i></span></td>",
      html_escaped(text), percent);
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

// --- head
// -----------------------------------------------------------------------------------------

std::string header(const ComparisonReport& report) {
  std::string html = fmt::format(
      "<header><div class=\"mark\">mezzotint</div><h1>{}</h1><p class=\"verdict\">{}</p>"
      "<ul class=\"chips\">",
      html_escaped(report.title), html_escaped(verdict(report)));
  for (const auto& [name, value] : report.settings) {
    html += fmt::format("<li>{} <b>{}</b></li>", html_escaped(name), html_escaped(value));
  }
  html += "</ul>";
  if (!report.notes.empty()) {
    html += "<ul class=\"notes\">";
    for (const std::string& note : report.notes) {
      html += fmt::format("<li>{}</li>", html_escaped(note));
    }
    html += "</ul>";
  }
  return html + "</header>";
}

// --- the table
// ------------------------------------------------------------------------------------

std::string summary_row(const ComparisonReport& report, const FormReport& form,
                        const std::vector<std::string>& cells, bool is_best) {
  const FormReport& reference = report.reference;
  const auto bytes = [](int64_t n) { return static_cast<double>(n); };
  std::string html = is_best ? "<tr class=\"best\">" : "<tr>";
  html += cell(cells[0]);
  html += bar_cell(cells[1], share(bytes(form.file_bytes), bytes(reference.file_bytes)));
  html += bar_cell(cells[2], share(bytes(form.resident_bytes), bytes(reference.resident_bytes)));
  html += bar_cell(cells[3], share(form.step_seconds, reference.step_seconds));
  for (size_t i = 4; i < cells.size(); ++i) html += cell(cells[i], "n");
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
  html += head_row(table.columns) + "<tbody>";
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

// --- layers
// ---------------------------------------------------------------------------------------

std::string value_cell(std::string_view text, double value) {
  return fmt::format("<td class=\"n\" data-v=\"{}\">{}</td>", value, html_escaped(text));
}

std::string layer_row(const LayerReport& layer) {
  const bool is_float = layer.algorithm == "FLOAT";
  std::string html = "<tr>" + cell(layer.name);
  html +=
      fmt::format("<td class=\"n\" data-v=\"{}\">{} &times; {}</td>",
                  layer.out_features * layer.in_features, layer.out_features, layer.in_features);
  html += fmt::format("<td><span class=\"tag{}\">{}</span></td>", is_float ? " float" : "",
                      html_escaped(layer.algorithm));
  html += layer.weight_sqnr_db == 0
              ? std::string("<td class=\"n\" data-v=\"\"></td>")
              : value_cell(fmt::format("{:.1f}", layer.weight_sqnr_db), layer.weight_sqnr_db);
  html += value_cell(human_bytes(layer.bytes_before), static_cast<double>(layer.bytes_before));
  html += value_cell(human_bytes(layer.bytes_after), static_cast<double>(layer.bytes_after));
  return html + cell(layer.reason) + "</tr>";
}

std::string layer_details(const FormReport& form, bool open) {
  const Report& report = form.layers;
  std::string facts = fmt::format("{} quantized, {} kept float", report.quantized(), report.kept());
  if (const LayerReport* worst = worst_layer(report)) {
    facts += fmt::format(", worst {} at {:.1f} dB", worst->name, worst->weight_sqnr_db);
  }
  std::string html = fmt::format(
      "<details class=\"card\"{}><summary>{}<span>{}</span></summary>{}<div class=\"scroll\">"
      "<table class=\"layers\">",
      open ? " open" : "", html_escaped(form.label), html_escaped(facts), heatmap_html(report));
  html += head_row({{"layer"},
                    {"out × in", Align::kRight},
                    {"algorithm"},
                    {"SQNR dB", Align::kRight},
                    {"before", Align::kRight},
                    {"after", Align::kRight},
                    {"why kept float"}});
  html += "<tbody>";
  for (const LayerReport& layer : report.layers) html += layer_row(layer);
  return html + "</tbody></table></div></details>";
}

std::string layer_section(const ComparisonReport& report) {
  std::string html =
      "<section><h2>Layers</h2><p class=\"hint\">Click on a column to sort. SQNR is "
      "10&thinsp;log<sub>10</sub>(&Sigma;w&sup2; / &Sigma;(w&minus;w&prime;)&sup2;) of the "
      "weights: higher is better, 6 dB are one bit. In the maps a column is a block and a strong "
      "colour a layer to look at.</p>";
  for (const FormReport& form : report.forms) {
    html += layer_details(form, &form == &report.forms.back());
  }
  return html + "</section>";
}

// --- how
// ------------------------------------------------------------------------------------------

std::string fact_table(std::string_view title, const NamedTexts& facts) {
  std::string html = fmt::format("<div><h2>{}</h2><div class=\"card\"><table><tbody>", title);
  for (const auto& [name, value] : facts) {
    html += "<tr>" + cell(name) + cell(value) + "</tr>";
  }
  return html + "</tbody></table></div></div>";
}

std::string reproduce_section(const ComparisonReport& report) {
  return fmt::format(
      "<section><h2>Reproduce</h2><div class=\"card\"><pre>{}</pre></div></section>"
      "<section class=\"two\">{}{}</section>",
      html_escaped(report.command), fact_table("Settings", report.settings),
      fact_table("Environment", report.environment));
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string report_html(const ComparisonReport& report) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">";
  html += fmt::format("<title>{}</title><style>{}</style></head><body>", html_escaped(report.title),
                      report_style());
  html += header(report) + "<main>" + summary_section(report) + image_section(report) +
          layer_section(report) + reproduce_section(report) + "</main>";
  html += fmt::format(
      "<footer>Written by mezzotint {}. This file needs no network.</footer>"
      "<script>{}</script></body></html>\n",
      version(), report_script());
  return html;
}

}  // namespace mezzotint::cli
