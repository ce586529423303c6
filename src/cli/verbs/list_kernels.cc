#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/cpu_features.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "kernels/attention_op.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

// Instructions that would pay and that no row uses: a row that no machine of ours runs is not
// tested.
constexpr std::string_view kAbsent[] = {"AMX", "AVX-VNNI"};

struct Options {
  bool markdown = false;
  std::vector<int64_t> shape;  // m, n, k
};

struct KernelLine {
  std::string_view op;
  std::string_view name;
  std::string_view layout;
  Isa isa = Isa::kPortable;
  std::string inactive;  // why this processor, or this shape, does not use the row
};

std::string why_isa_is_out(Isa needed, Isa active, Isa detected) {
  if (needed <= active) return "";
  if (needed <= detected) return fmt::format("capped by MEZZOTINT_ISA={}", isa_name(active));
  return fmt::format("needs {}, this processor has {}", isa_name(needed), isa_name(detected));
}

std::string why_linear_is_out(const LinearKernel& row, const Options& options, Isa active) {
  std::string reason = why_isa_is_out(row.isa, active, detected_isa());
  if (!reason.empty() || options.shape.empty() || row.declines == nullptr) return reason;
  const char* declined = row.declines({options.shape[0], options.shape[1], options.shape[2]});
  return declined == nullptr ? "" : declined;
}

std::vector<KernelLine> kernel_lines(const Options& options) {
  const Isa active = active_isa();
  std::vector<KernelLine> lines;
  for (const LinearKernel& row : linear_kernels()) {
    lines.push_back({.op = "linear",
                     .name = row.name,
                     .layout = layout_row(row.layout).name,
                     .isa = row.isa,
                     .inactive = why_linear_is_out(row, options, active)});
  }
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) {
    lines.push_back({.op = "quantize rows",
                     .name = row.name,
                     .layout = "-",
                     .isa = row.isa,
                     .inactive = why_isa_is_out(row.isa, active, detected_isa())});
  }
  for (const AttentionKernel& row : attention_kernels()) {
    lines.push_back({.op = "attention",
                     .name = row.name,
                     .layout = "-",
                     .isa = row.isa,
                     .inactive = why_isa_is_out(row.isa, active, detected_isa())});
  }
  for (const QuantizeMxKernel& row : quantize_mx_kernels()) {
    lines.push_back({.op = "quantize mx",
                     .name = row.name,
                     .layout = "-",
                     .isa = row.isa,
                     .inactive = why_isa_is_out(row.isa, active, detected_isa())});
  }
  return lines;
}

nlohmann::json to_json(const KernelLine& line) {
  nlohmann::json entry = {{"op", line.op},
                          {"name", line.name},
                          {"isa", isa_name(line.isa)},
                          {"active", line.inactive.empty()}};
  if (line.layout != "-") entry["layout"] = line.layout;
  if (!line.inactive.empty()) entry["reason"] = line.inactive;
  return entry;
}

void check_shape(const Options& options) {
  for (const int64_t size : options.shape) {
    if (size >= 1) continue;
    throw Error(ErrorCode::kUsage, "--shape",
                {.expected = "three positive sizes M,N,K", .found = std::to_string(size)});
  }
}

// Which rows exist is a fact of the source; what is active, of a machine: docs show the first only.
TextTable table(const std::vector<KernelLine>& lines, bool with_machine) {
  TextTable table{{{"op"}, {"row"}, {"packed layout"}, {"needs"}}, {}};
  if (with_machine) table.columns.push_back({"on this processor"});
  for (const KernelLine& line : lines) {
    std::vector<std::string> cells = {std::string(line.op), std::string(line.name),
                                      std::string(line.layout), std::string(isa_name(line.isa))};
    if (with_machine) cells.push_back(line.inactive.empty() ? "active" : "no: " + line.inactive);
    table.rows.push_back(std::move(cells));
  }
  return table;
}

int run(Session& session, const Options& options) {
  check_shape(options);
  const std::vector<KernelLine> lines = kernel_lines(options);
  nlohmann::json rows = nlohmann::json::array();
  for (const KernelLine& line : lines) rows.push_back(to_json(line));
  session.emit(
      {{"isa", {{"detected", isa_name(detected_isa())}, {"active", isa_name(active_isa())}}},
       {"absent", kAbsent},
       {"kernels", rows}});
  std::string text =
      options.markdown ? to_markdown(table(lines, false)) : to_text(table(lines, true));
  text.pop_back();  // print() ends the line
  session.print(text);
  if (session.quiet()) return 0;
  session.print(
      fmt::format("\nNo rows use {}: nothing here can run and test them. Processors that have them "
                  "run the rows "
                  "above.",
                  fmt::join(kAbsent, " or ")));
  if (options.markdown) return 0;
  session.print(
      fmt::format("processor {}, in use {}. Of the active rows of a layout the first that accepts "
                  "a shape runs.",
                  isa_name(detected_isa()), isa_name(active_isa())));
  return 0;
}

}  // namespace

RunVerb define_list_kernels(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_flag("--markdown", options->markdown, "as a Markdown table, without this machine");
  app.add_option("--shape", options->shape, "also say which rows decline x:[M,K] w:[N,K]")
      ->type_name("M,N,K")
      ->delimiter(',')
      ->expected(3);
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
