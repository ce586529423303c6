#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "mezzotint/error.h"
#include "quant/presets.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string name;
};

std::string_view condition(KeepWhen when) {
  switch (when) {
    case KeepWhen::kAlways:
      return "always";
    case KeepWhen::kQuantizedActivations:
      return "with quantized activations";
  }
  return "";
}

nlohmann::json to_json(const Preset& preset) {
  nlohmann::json entry = {{"name", preset.name},
                          {"title", preset.title},
                          {"detect", preset.detect},
                          {"absent", preset.absent},
                          {"float", nlohmann::json::array()}};
  for (const KeptLayers& kept : preset.kept) {
    entry["float"].push_back(
        {{"layers", kept.pattern}, {"why", kept.why}, {"when", condition(kept.when)}});
  }
  for (const AttentionLayers& layers : preset.attentions) {
    entry["attention"].push_back({{"layers", layers.pattern},
                                  {"head_dim", layers.head_dim},
                                  {"head_dim_of", layers.head_dim_of}});
  }
  for (const SharedInput& shared : preset.shared_inputs) {
    entry["shared_input"].push_back({{"parent", shared.parent}, {"members", shared.members}});
  }
  return entry;
}

void print_table(const Session& session, const TextTable& table) {
  std::string text = to_text(table);
  text.pop_back();
  session.print(text);
}

void print_list(const Session& session, const std::vector<Preset>& all) {
  TextTable table{{{"preset"}, {"architecture"}, {"kept float"}}, {}};
  for (const Preset& preset : all) {
    std::string kept;
    for (const KeptLayers& layers : preset.kept)
      kept += (kept.empty() ? "" : ", ") + layers.pattern;
    table.rows.push_back({preset.name, preset.title, kept});
  }
  print_table(session, table);
  if (!session.quiet()) session.print("\nmezzotint presets NAME says why.");
}

void print_one(const Session& session, const Preset& preset) {
  session.print(session.paint(Tone::kBold, preset.name + ": " + preset.title));
  session.print("\nA file is of this kind when it holds");
  for (const std::string& tensor : preset.detect) session.print("  " + tensor);
  session.print("\nKept float");
  TextTable table{{{"layers"}, {"when"}, {"why"}}, {}};
  for (const KeptLayers& kept : preset.kept) {
    table.rows.push_back({kept.pattern, std::string(condition(kept.when)), kept.why});
  }
  print_table(session, table);
}

const Preset& find(const std::vector<Preset>& all, const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& preset : all) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  throw Error(ErrorCode::kUsage, "unknown preset '" + name + "'",
              {.fix = did_you_mean(nearest_names(name, names, 3))});
}

int run(Session& session, const Options& options) {
  const std::vector<Preset> all = presets();
  if (!options.name.empty()) {
    const Preset& preset = find(all, options.name);
    print_one(session, preset);
    session.emit(to_json(preset));
    return 0;
  }
  print_list(session, all);
  nlohmann::json entries = nlohmann::json::array();
  for (const Preset& preset : all) entries.push_back(to_json(preset));
  session.emit({{"presets", entries}});
  return 0;
}

}  // namespace

RunVerb define_presets(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("NAME", options->name, "the preset to explain");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
