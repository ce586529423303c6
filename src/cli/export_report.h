// What an export did, as plain data and as a report: HTML with charts, JSON, Markdown.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/text.h"
#include "cli/text_table.h"
#include "mezzotint/report.h"
#include "quant/layer_choice.h"

namespace mezzotint::cli {

struct ExportReport {
  std::string source;
  std::string label;    // the algorithm, or "mixed"
  std::string command;  // reproduces it
  Report report;
  std::vector<SizePoint> sizes{};     // of an analysis that chose, or none
  std::optional<SizePoint> chosen{};  // likewise
  int64_t layers_analyzed = 0;        // that the errors of `sizes` are summed over
  NamedTexts environment{};
};

std::string export_verdict(const ExportReport& report);
std::string export_html(const ExportReport& report);
std::string export_json(const ExportReport& report);      // to_json(report.report), and the sizes
std::string export_markdown(const ExportReport& report);  // verdict and layer table

// How a report file is written, by its extension; nullopt for none of .html, .json and .md.
using ReportWriter = std::string (*)(const ExportReport&);
std::optional<ReportWriter> report_writer(const std::filesystem::path& file);

// Rows of a table of layers: numbers where any layer has them.
TextTable report_table(const Report& report);

}  // namespace mezzotint::cli
