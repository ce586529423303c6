#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/choosing.h"
#include "cli/export_options.h"
#include "cli/output_check.h"
#include "cli/text.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "format/output_file.h"
#include "mezzotint/error.h"
#include "quant/output_errors.h"
#include "quant/recipe.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string source;
  std::string component = "transformer";
  std::string recipe_file;
  Aim aim;
  bool markdown = false;
  bool force = false;
  TypedOptions typed;
};

void check_options(const Options& options) {
  check_aim(options.aim);
  if (options.aim.given() == options.recipe_file.empty()) {
    throw Error(ErrorCode::kUsage, "a recipe has an aim, and an aim a recipe to write",
                {.expected = "-o RECIPE.yaml with --target-size or --min-sqnr, or neither",
                 .found = options.aim.given() ? "an aim alone" : "-o alone"});
  }
  if (!options.recipe_file.empty()) {
    check_output_file(options.recipe_file, options.force ? Existing::kReplace : Existing::kRefuse);
  }
}

std::string chosen_name(const ModelAnalysis& analysis, const ModelChoice& choice, size_t layer) {
  const size_t a = choice.algorithm[layer];
  return a < analysis.algorithms.size() ? analysis.algorithms[a] : "float";
}

// Worst first, by the first algorithm; layers that it may not have come last.
TextTable table_of(const ModelAnalysis& analysis, const ModelChoice* choice) {
  TextTable table;
  table.columns = {{"layer"}, {"shape"}};
  for (const std::string& algorithm : analysis.algorithms) {
    table.columns.push_back({algorithm + " dB", Align::kRight});
  }
  if (choice != nullptr) table.columns.push_back({"chosen"});
  std::vector<const LayerAnalysis*> order = ranked(analysis, 0);
  for (const LayerAnalysis& layer : analysis.layers) {
    if (choice_of(layer, 0) == nullptr && !layer.choices.empty()) order.push_back(&layer);
  }
  for (const LayerAnalysis* layer : order) {
    std::vector<std::string> row = {layer->name, fmt::format("[{},{}]", layer->n, layer->k)};
    for (size_t a = 0; a < analysis.algorithms.size(); ++a) {
      const LayerChoice* known = choice_of(*layer, a);
      row.push_back(known == nullptr ? "-" : fmt::format("{:.1f}", known->sqnr_db()));
    }
    if (choice != nullptr) {
      row.push_back(
          chosen_name(analysis, *choice, static_cast<size_t>(layer - analysis.layers.data())));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

nlohmann::json layer_json(const ModelAnalysis& analysis, const LayerAnalysis& layer) {
  nlohmann::json choices = nlohmann::json::array();
  for (const LayerChoice& choice : layer.choices) {
    choices.push_back({{"algorithm", analysis.algorithms[choice.algorithm]},
                       {"bytes", choice.bytes},
                       {"error", choice.error},
                       {"cosine", choice.cosine},
                       {"sqnr_db", choice.sqnr_db()}});
  }
  return {{"name", layer.name},
          {"out_features", layer.n},
          {"in_features", layer.k},
          {"float_bytes", layer.float_bytes},
          {"choices", choices}};
}

constexpr const char* kNoAttentionError =
    "the statistics hold no error of this attention: mezzotint collect measures it where it runs "
    "the "
    "model; mezzotint compare judges it on images";

void print_attentions(const Session& session, const ModelAnalysis& analysis) {
  bool all_known = true;
  for (const AttentionAnalysis& attention : analysis.attentions) {
    std::string line =
        fmt::format("attention {}   {}, head_dim {}, {} of rotations", printable(attention.name),
                    attention.algorithm, attention.head_dim, human_bytes(attention.bytes));
    if (attention.error) line += fmt::format(", {:.1f} dB", sqnr_db(*attention.error));
    all_known = all_known && attention.error.has_value();
    session.print(line);
  }
  if (!all_known) session.print(fmt::format("note   {}", kNoAttentionError));
}

nlohmann::json attention_json(const AttentionAnalysis& attention) {
  nlohmann::json entry = {{"name", attention.name},
                          {"algorithm", attention.algorithm},
                          {"head_dim", attention.head_dim},
                          {"bytes", attention.bytes}};
  if (attention.error) {
    entry["error"] = *attention.error;
    entry["sqnr_db"] = sqnr_db(*attention.error);
  } else {
    entry["reason"] = kNoAttentionError;
  }
  return entry;
}

nlohmann::json json_of(const ModelAnalysis& analysis, const ModelChoice* choice) {
  nlohmann::json layers = nlohmann::json::array();
  for (size_t i = 0; i < analysis.layers.size(); ++i) {
    layers.push_back(layer_json(analysis, analysis.layers[i]));
    if (!analysis.layers[i].reason.empty()) layers.back()["reason"] = analysis.layers[i].reason;
    if (choice == nullptr) continue;
    layers.back()["chosen"] = chosen_name(analysis, *choice, i);
    layers.back()["why"] = choice->rules[i].reason;
  }
  nlohmann::json points = nlohmann::json::array();
  for (const SizePoint& point : size_points(analysis)) {
    points.push_back({{"algorithm", point.label}, {"bytes", point.bytes}, {"error", point.error}});
  }
  nlohmann::json attentions = nlohmann::json::array();
  for (const AttentionAnalysis& attention : analysis.attentions) {
    attentions.push_back(attention_json(attention));
  }
  nlohmann::json document = {{"float_bytes", analysis.float_bytes},
                             {"layers", std::move(layers)},
                             {"attentions", std::move(attentions)},
                             {"sizes", std::move(points)}};
  if (choice != nullptr) {
    document["bytes"] = choice->bytes;
    document["error"] = choice->error;
  }
  return document;
}

void write_recipe(const Session& session, const Options& options, const ExportOptions& exported,
                  const ModelAnalysis& analysis, const ModelChoice& choice) {
  write_file_atomically(
      options.recipe_file,
      recipe_text(options.recipe_file, with_rules(exported, choice.rules), session.command()));
  session.print(choice_line(analysis, choice));
  session.print("wrote  " + options.recipe_file);
  if (session.quiet()) return;
  session.print(fmt::format("next   mezzotint quantize {} -o DIR --recipe {}",
                            shell_quoted(options.source), shell_quoted(options.recipe_file)));
}

int run(Session& session, const Options& options) {
  check_options(options);
  const ExecContext ctx = session.context();
  const WeightStore source = WeightStore::open(options.source, options.component);
  const ExportOptions exported = over({}, options.typed);
  const ModelAnalysis analysis = run_analysis(session, source, exported, options.aim, ctx);
  std::optional<ModelChoice> choice;
  if (options.aim.given()) choice = choose(source, exported, analysis, options.aim);
  const TextTable table = table_of(analysis, choice ? &*choice : nullptr);
  std::string text = options.markdown ? to_markdown(table) : to_text(table);
  text.pop_back();
  session.print(text);
  print_attentions(session, analysis);
  if (choice) write_recipe(session, options, exported, analysis, *choice);
  session.emit(json_of(analysis, choice ? &*choice : nullptr));
  return 0;
}

}  // namespace

RunVerb define_analyze(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "safetensors file, index.json or model folder")
      ->required();
  add_calibration(app, options->typed);
  app.get_option("--stats")->required();
  add_aim(app, options->aim);
  add_keeping(app, options->typed);
  add_attentions(app, options->typed);
  app.add_option("--component", options->component, "part of a pipeline folder")->type_name("NAME");
  app.add_option("-o,--output,--out", options->recipe_file, "write what was chosen, for --recipe")
      ->type_name("RECIPE.yaml");
  app.add_flag("--md", options->markdown, "print the table as Markdown, for a pull request");
  app.add_flag("--force", options->force, "replace an existing file");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
