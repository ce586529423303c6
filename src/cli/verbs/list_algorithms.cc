#include <memory>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {
namespace {

struct Options {
  bool markdown = false;
  bool all = false;
};

std::string_view status_name(AlgorithmStatus status) {
  switch (status) {
    case AlgorithmStatus::kServed:
      return "served";
    case AlgorithmStatus::kPlanned:
      return "planned";
    case AlgorithmStatus::kForeign:
      return "foreign";
  }
  return "";
}

nlohmann::json to_json(const ParamSpec& spec) {
  nlohmann::json dtypes = nlohmann::json::array();
  for (const DType dtype : spec.dtypes) dtypes.push_back(dtype_name(dtype));
  return {{"suffix", spec.suffix},
          {"dtypes", dtypes},
          {"shapes", spec.shapes},
          {"required", spec.presence == Presence::kRequired},
          {"label", spec.label == LabelRule::kFloat ? "FLOAT" : "the algorithm's"},
          {"meaning", spec.meaning}};
}

nlohmann::json to_json(const AlgorithmRow& row) {
  nlohmann::json entry = {{"name", row.name},
                          {"canonical", row.canonical},
                          {"status", status_name(row.status)},
                          {"summary", row.summary}};
  if (contract_name(row).empty()) return entry;
  entry["contract"] = contract_name(row);
  for (const ParamSpec& spec : contract_tensors(row)) entry["tensors"].push_back(to_json(spec));
  return entry;
}

bool is_shown(const AlgorithmRow& row, const Options& options) {
  return options.all || row.status != AlgorithmStatus::kForeign;
}

TextTable table(const Options& options) {
  TextTable table{{{"algorithm"}, {"status"}, {"file contract"}, {"what it is"}}, {}};
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!is_shown(row, options)) continue;
    table.rows.push_back({std::string(row.name), std::string(status_name(row.status)),
                          std::string(contract_name(row).empty() ? "-" : contract_name(row)),
                          std::string(row.summary)});
  }
  return table;
}

std::string without_last_newline(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

int run(Session& session, const Options& options) {
  nlohmann::json rows = nlohmann::json::array();
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (is_shown(row, options)) rows.push_back(to_json(row));
  }
  session.emit({{"algorithms", rows}});
  if (options.markdown) {
    session.print(without_last_newline(algorithms_markdown()));
    return 0;
  }
  session.print(without_last_newline(to_text(table(options))));
  if (session.quiet()) return 0;
  session.print("");
  session.print("served: read, run and written.  planned: a name of the format that this version");
  session.print("refuses.  Names in any case; 'float' is an algorithm for --rule.");
  return 0;
}

}  // namespace

RunVerb define_list_algorithms(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_flag("--markdown", options->markdown, "the tables of docs/algorithms.md");
  app.add_flag("--all", options->all, "also labels of other tools, which are refused by name");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
