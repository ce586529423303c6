#include "cli/report_page.h"

#include <fmt/format.h>

#include "mezzotint/version.h"

namespace mezzotint::cli {
namespace {

std::string header(const PageHead& head) {
  std::string html = fmt::format(
      "<header><div class=\"mark\">mezzotint</div><h1>{}</h1><p class=\"verdict\">{}</p>"
      "<ul class=\"chips\">",
      html_escaped(head.title), html_escaped(head.verdict));
  for (const auto& [name, value] : head.settings) {
    html += fmt::format("<li>{} <b>{}</b></li>", html_escaped(name), html_escaped(value));
  }
  html += "</ul>";
  if (!head.notes.empty()) {
    html += "<ul class=\"notes\">";
    for (const std::string& note : head.notes) {
      html += fmt::format("<li>{}</li>", html_escaped(note));
    }
    html += "</ul>";
  }
  return html + "</header>";
}

std::string fact_table(std::string_view title, const NamedTexts& facts) {
  std::string html = fmt::format("<div><h2>{}</h2><div class=\"card\"><table><tbody>", title);
  for (const auto& [name, value] : facts) {
    html += "<tr>" + cell_html(name) + cell_html(value) + "</tr>";
  }
  return html + "</tbody></table></div></div>";
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

std::string cell_html(std::string_view text, std::string_view classes) {
  if (classes.empty()) return fmt::format("<td>{}</td>", html_escaped(text));
  return fmt::format("<td class=\"{}\">{}</td>", classes, html_escaped(text));
}

std::string value_cell_html(std::string_view text, double value) {
  return fmt::format("<td class=\"n\" data-v=\"{}\">{}</td>", value, html_escaped(text));
}

std::string head_row_html(const std::vector<Column>& columns) {
  std::string html = "<thead><tr>";
  for (const Column& column : columns) {
    html += fmt::format("<th{}>{}</th>", column.align == Align::kRight ? " class=\"n\"" : "",
                        html_escaped(column.title));
  }
  return html + "</tr></thead>";
}

std::string section_html(std::string_view title, std::string_view hint, std::string_view content) {
  if (content.empty()) return "";
  return fmt::format("<section><h2>{}</h2><p class=\"hint\">{}</p>{}</section>", title, hint,
                     content);
}

std::string reproduce_section(std::string_view command, const NamedTexts& settings,
                              const NamedTexts& environment) {
  return fmt::format(
      "<section><h2>Reproduce</h2><div class=\"card\"><pre>{}</pre></div></section>"
      "<section class=\"two\">{}{}</section>",
      html_escaped(command), fact_table("Settings", settings),
      fact_table("Environment", environment));
}

std::string page_html(const PageHead& head, std::string_view body) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">";
  html += fmt::format("<title>{}</title><style>{}</style></head><body>", html_escaped(head.title),
                      report_style());
  html += fmt::format("{}<main>{}</main>", header(head), body);
  html += fmt::format(
      "<footer>Written by mezzotint {}. This file needs no network.</footer>"
      "<script>{}</script></body></html>\n",
      version(), report_script());
  return html;
}

}  // namespace mezzotint::cli
