#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/error_text.h"
#include "cli/inspection.h"
#include "cli/layer_summary.h"
#include "cli/text.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string path;
  std::string component = "transformer";
  bool check = false;
  bool layers = false;
};

TextTable group_table(const Inspection& found) {
  TextTable table{{{"algorithm"},
                   {"layers", Align::kRight},
                   {"weights", Align::kRight},
                   {"bytes", Align::kRight},
                   {"bits per weight", Align::kRight}},
                  {}};
  for (const AlgorithmGroup& group : by_algorithm(found.layers)) {
    const double bits =
        8.0 * static_cast<double>(group.bytes_after) / static_cast<double>(group.weights);
    table.rows.push_back({group.algorithm, std::to_string(group.layers), human_count(group.weights),
                          human_bytes(group.bytes_after),
                          group.weights == 0 ? "-" : fmt::format("{:.2f}", bits)});
  }
  return table;
}

std::string dtype_text(const Inspection& found) {
  std::string text;
  for (const auto& [dtype, count] : found.dtypes) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {} ({})", count.tensors, dtype, human_bytes(count.bytes));
  }
  return text;
}

void print_lines(const Session& session, std::string text) {
  text.pop_back();  // print() ends the line
  session.print(text);
}

void print_found(const Session& session, const Options& options, const Inspection& found) {
  session.print(session.paint(Tone::kBold, fmt::format("{}: {}", options.path, found.dialect)));
  if (!found.remark.empty()) session.print(session.paint(Tone::kWarn, "  " + found.remark));
  for (const std::string& file : found.files) session.print("  file  " + printable(file));
  for (const auto& [name, value] : found.facts) {
    session.print(fmt::format("  {}: {}", name, printable(value)));
  }
  session.print(fmt::format("  {}, {} values, {}", plural(found.tensors, "tensor"),
                            human_count(found.parameters), human_bytes(found.bytes)));
  session.print("  " + dtype_text(found));
  if (!found.layers.layers.empty()) {
    session.print("");
    print_lines(session, to_text(group_table(found)));
  }
  if (options.layers || session.verbose()) {
    session.print("");
    print_lines(session, to_text(layer_table(found.layers)));
  }
}

void print_problems(const Session& session, const Options& options, const Inspection& found) {
  if (!found.layers.layers.empty()) session.print("");
  for (const Error& problem : found.problems) {
    session.print(session.paint(Tone::kBad, "problem: ") + error_text(problem));
  }
  for (const std::string& warning : found.warnings) {
    session.print(session.paint(Tone::kWarn, "warning: ") + printable(warning));
  }
  const auto count = static_cast<int64_t>(found.problems.size());
  if (count > 0) {
    session.print(session.paint(Tone::kBad, plural(count, "problem")));
  } else if (options.check) {
    session.print(session.paint(Tone::kGood, "checked every tensor: no problem"));
  } else if (!session.quiet()) {
    session.print("headers and names are fine; --check reads every value");
  }
}

nlohmann::json to_json(const Options& options, const Inspection& found) {
  nlohmann::json document = {
      {"path", options.path},       {"dialect", found.dialect},
      {"files", found.files},       {"tensors", found.tensors},
      {"values", found.parameters}, {"bytes", found.bytes},
      {"checked", options.check},   {"layers", report_json(found.layers)["layers"]},
      {"warnings", found.warnings}, {"problems", nlohmann::json::array()}};
  if (!found.remark.empty()) document["remark"] = found.remark;
  for (const auto& [name, value] : found.facts) document["facts"][name] = value;
  for (const auto& [dtype, count] : found.dtypes) {
    document["dtypes"][dtype] = {{"tensors", count.tensors}, {"bytes", count.bytes}};
  }
  for (const Error& problem : found.problems) {
    document["problems"].push_back(error_json(problem)["error"]);
  }
  return document;
}

int run(Session& session, const Options& options) {
  Progress progress = session.progress("checking");
  InspectOptions inspect_options{.depth = options.check ? Depth::kEverything : Depth::kHeaders,
                                 .component = options.component};
  inspect_options.progress = [&progress](double done, double total, std::string_view tensor) {
    progress.update(done, total, tensor);
  };
  const Inspection found = inspect_path(options.path, inspect_options);
  if (options.check) progress.finish();
  print_found(session, options, found);
  print_problems(session, options, found);
  session.emit(to_json(options, found));
  // Looking at a broken file is not an error; checking it is.
  if (!options.check || found.problems.empty()) return 0;
  return static_cast<int>(found.problems.front().code());
}

}  // namespace

RunVerb define_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("PATH", options->path, "weights, index.json, descriptor or folder")->required();
  app.add_flag("--check", options->check, "read every tensor: schema, shapes, values, names, run");
  app.add_flag("--layers", options->layers, "print one line per layer");
  app.add_option("--component", options->component, "part of a pipeline folder")->type_name("NAME");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
