// The frame of a report: ONE self-contained HTML file, images as data URIs, no network (a content
// security policy forbids it), light and dark. Every text is escaped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/text.h"
#include "cli/text_table.h"

namespace mezzotint::cli {

struct PageHead {
  std::string title;
  std::string verdict;  // one sentence
  NamedTexts settings;
  std::vector<std::string> notes;
};

// `body`: sections.
std::string page_html(const PageHead& head, std::string_view body);

// "" without content. The hint is HTML.
std::string section_html(std::string_view title, std::string_view hint, std::string_view content);
// The command, and two tables of facts.
std::string reproduce_section(std::string_view command, const NamedTexts& settings,
                              const NamedTexts& environment);

std::string cell_html(std::string_view text, std::string_view classes = "");
// A right-aligned cell that sorts by `value`.
std::string value_cell_html(std::string_view text, double value);
std::string head_row_html(const std::vector<Column>& columns);

std::string html_escaped(std::string_view text);

// The inline style sheet and script (report_assets.cc).
std::string_view report_style();
std::string_view report_script();

}  // namespace mezzotint::cli
