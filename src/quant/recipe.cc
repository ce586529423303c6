#include "quant/recipe.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include <fmt/format.h>

#include "base/byte_size.h"
#include "mezzotint/error.h"
#include "quant/msmodelslim_recipe.h"
#include "quant/yaml_reader.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRecipeVersion = 1;
constexpr size_t kMaxRecipe = 16 << 20;  // bytes

class RecipeReader {
 public:
  RecipeReader(const YamlReader& in, fs::path file) : in_(in), file_(std::move(file)) {}

  Recipe read(const YAML::Node& root) const {
    in_.check_keys(root, {"mezzotint", "model", "defaults", "rules", "exclude", "attention",
                          "calibration", "timestep", "output", "gates"});
    if (in_.integer(root, "mezzotint") != kRecipeVersion) {
      in_.fail("mezzotint", fmt::format("version {}", kRecipeVersion), root["mezzotint"].Scalar(),
               root["mezzotint"]);
    }
    Recipe recipe;
    ExportOptions& options = recipe.options;
    if (const YAML::Node node = root["model"]) read_model(node, options);
    if (const YAML::Node node = root["defaults"]) read_defaults(node, options);
    for (const YAML::Node& node : in_.list(root, "rules")) read_rule(node, options.rules);
    options.exclude = in_.patterns(root, "exclude");
    if (const YAML::Node node = root["attention"]) read_attentions(node, options.attentions);
    if (const YAML::Node node = root["calibration"]) read_calibration(node, recipe);
    if (const YAML::Node node = root["timestep"]) read_timestep(root, node, recipe);
    if (const YAML::Node node = root["output"]) read_output(node, options);
    if (const YAML::Node node = root["gates"]) {
      in_.check_keys(node, {"min_sqnr_db"});
      if (node["min_sqnr_db"]) recipe.least_sqnr_db = in_.number(node, "min_sqnr_db");
    }
    return recipe;
  }

 private:
  void read_model(const YAML::Node& node, ExportOptions& options) const {
    in_.check_keys(node, {"preset", "names"});
    if (node["preset"]) options.preset = in_.text(node, "preset");
    // Patterns are over the names of the source; the presets know diffusers'.
    if (node["names"]) in_.choice<int>(node, "names", {{"diffusers", 0}});
  }

  void read_defaults(const YAML::Node& node, ExportOptions& options) const {
    in_.check_keys(node, {"algo", "group_size", "svd_rank", "weight", "act"});
    if (node["algo"]) options.algorithm = in_.text(node, "algo");
    if (node["group_size"]) options.group_size = positive(node, "group_size");
    if (node["svd_rank"]) options.svd_rank = positive(node, "svd_rank");
    if (const YAML::Node weight = node["weight"]) {
      in_.check_keys(weight, {"method", "act_order"});
      options.calibration.feedback = in_.choice<ErrorFeedback>(
          weight, "method", {{"mse", ErrorFeedback::kByName}, {"gptq", ErrorFeedback::kAlways}});
      if (weight["act_order"]) options.calibration.order = read_order(weight);
    }
    if (const YAML::Node act = node["act"]) {
      in_.check_keys(act, {"method"});
      options.calibration.range = in_.choice<RangeRule>(act, "method",
                                                        {{"mse", RangeRule::kMse},
                                                         {"minmax", RangeRule::kMinMax},
                                                         {"percentile", RangeRule::kPercentile}});
    }
  }

  int64_t positive(const YAML::Node& node, const char* key) const {
    const int64_t value = in_.integer(node, key);
    if (value < 1) in_.fail(key, "1 or more", node[key].Scalar(), node[key]);
    return value;
  }

  // YAML takes on and off for true and false, and so may whoever writes one.
  FeedbackOrder read_order(const YAML::Node& weight) const {
    return in_.choice<FeedbackOrder>(weight, "act_order",
                                     {{"auto", FeedbackOrder::kAuto},
                                      {"on", FeedbackOrder::kByEnergy},
                                      {"true", FeedbackOrder::kByEnergy},
                                      {"off", FeedbackOrder::kStored},
                                      {"false", FeedbackOrder::kStored}});
  }

  // `match` is one pattern or a list of them.
  std::vector<std::string> matches(const YAML::Node& node) const {
    const YAML::Node match = node["match"];
    if (!match || !match.IsSequence()) return {in_.pattern(node, "match")};
    std::vector<std::string> patterns = in_.patterns(node, "match");
    if (patterns.empty()) in_.fail("match", "a pattern", "an empty list", match);
    return patterns;
  }

  void read_rule(const YAML::Node& node, std::vector<Rule>& rules) const {
    in_.check_keys(node, {"match", "algo", "why", "except"});
    const std::string why =
        node["why"] ? in_.text(node, "why") : fmt::format("recipe {}", file_.filename().string());
    for (std::string& pattern : matches(node)) {
      rules.push_back({.pattern = std::move(pattern),
                       .algorithm = in_.text(node, "algo"),
                       .reason = why,
                       .except = in_.patterns(node, "except")});
    }
  }

  // One, or a list of which the first match wins.
  void read_attentions(const YAML::Node& node, std::vector<AttentionRule>& rules) const {
    if (!node.IsSequence()) return read_attention(node, rules);
    for (const YAML::Node& one : node) read_attention(one, rules);
  }

  void read_attention(const YAML::Node& node, std::vector<AttentionRule>& rules) const {
    in_.check_keys(node, {"algo", "rotate", "match", "head_dim", "exclude"});
    if (node["rotate"]) in_.choice<int>(node, "rotate", {{"hadamard", 0}});
    AttentionRule rule = {.algorithm = in_.text(node, "algo"),
                          .except = in_.patterns(node, "exclude")};
    if (node["head_dim"]) rule.head_dim = in_.integer(node, "head_dim");
    if (!node["match"]) {
      rules.push_back(std::move(rule));
      return;
    }
    for (std::string& pattern : matches(node)) {
      rule.pattern = std::move(pattern);
      rules.push_back(rule);
    }
  }

  // What `parse` gives; its errors name the key, the file and the line.
  template <typename Parse>
  auto parsed(const YAML::Node& map, const char* key, const Parse& parse) const {
    const std::string text = in_.text(map, key);
    try {
      return parse(text);
    } catch (const Error& error) {
      in_.fail(key, error.details().expected, text, map[key], error.details().fix);
    }
  }

  // A policy, or the parts of a run that are dynamic and static.
  void read_timestep(const YAML::Node& root, const YAML::Node& node, Recipe& recipe) const {
    if (!node.IsMap()) {
      recipe.options.timestep_policy = parsed(root, "timestep", &TimestepPolicy::parse);
      return;
    }
    in_.check_keys(node, {"dynamic", "static"});
    for (const auto& [key, mode] :
         {std::pair{"dynamic", StepMode::kDynamic}, std::pair{"static", StepMode::kStatic}}) {
      if (!node[key]) continue;
      recipe.step_shares.push_back(parsed(node, key, [mode = mode](const std::string& text) {
        return parse_step_share(mode, text);
      }));
    }
  }

  // `data`: the file of statistics, or the folder that holds it.
  fs::path read_data(const YAML::Node& node) const {
    if (node["stats"]) in_.fail("data", "stats or data", "both", node["data"]);
    const fs::path data = file_.parent_path() / in_.text(node, "data");
    if (!fs::is_directory(data)) return data;
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(data)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    }
    if (files.size() == 1) return files.front();
    in_.fail("data", "a folder with one file of statistics",
             fmt::format("{} with {}", data.string(), files.size()), node["data"],
             files.empty() ? fmt::format("mezzotint collect MODEL -o {}",
                                         (data / "stats.safetensors").lexically_normal().string())
                           : "mezzotint stats merge makes one of them; name it with stats");
  }

  void read_calibration(const YAML::Node& node, Recipe& recipe) const {
    in_.check_keys(node, {"stats", "data", "samples", "smooth", "static_tolerance"});
    Calibration& how = recipe.options.calibration;
    if (node["stats"]) how.statistics = file_.parent_path() / in_.text(node, "stats");
    if (node["data"]) how.statistics = read_data(node);
    if (node["samples"]) {
      recipe.notes.push_back(
          fmt::format("calibration.samples says nothing to an export: mezzotint collect --prompts "
                      "{}",
                      in_.integer(node, "samples")));
    }
    if (node["smooth"]) {
      how.smoothing = in_.choice<Smoothing>(
          node, "smooth", {{"search", Smoothing::kSearch}, {"none", Smoothing::kNone}});
    }
    if (node["static_tolerance"]) {
      how.static_tolerance = in_.number(node, "static_tolerance");
      if (!(how.static_tolerance >= 0)) {
        in_.fail("static_tolerance", "0 or more", node["static_tolerance"].Scalar(),
                 node["static_tolerance"]);
      }
    }
  }

  void read_output(const YAML::Node& node, ExportOptions& options) const {
    in_.check_keys(node, {"format", "max_shard_size"});
    if (node["format"]) in_.choice<int>(node, "format", {{"mindie", 0}});
    if (!node["max_shard_size"]) return;
    const std::string text = in_.text(node, "max_shard_size");
    const std::optional<int64_t> bytes = parse_bytes(text);
    if (!bytes) {
      in_.fail("max_shard_size", "a size such as 5GB or 700MiB", text, node["max_shard_size"]);
    }
    options.max_shard_bytes = *bytes;
  }

  const YamlReader& in_;
  fs::path file_;
};

// YAML's double-quoted form, which every name survives.
std::string yaml_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string list_of(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + yaml_quoted(text);
  return "[" + list + "]";
}

// Below the recipe's folder as a relative path, so that both can move together.
std::string statistics_path(const fs::path& file, const fs::path& statistics) {
  const fs::path folder = fs::weakly_canonical(fs::absolute(file).parent_path());
  const fs::path whole = fs::weakly_canonical(fs::absolute(statistics));
  const fs::path below = whole.lexically_relative(folder);
  return (below.empty() || *below.begin() == ".." ? whole : below).generic_string();
}

// act_order stands beside a method, which it is of.
std::string weight_text(const Calibration& how) {
  const bool always = how.feedback == ErrorFeedback::kAlways;
  if (!always && how.order == FeedbackOrder::kAuto) return "";
  std::string text = fmt::format("weight: {{method: {}", always ? "gptq" : "mse");
  if (how.order == FeedbackOrder::kByEnergy) text += ", act_order: on";
  if (how.order == FeedbackOrder::kStored) text += ", act_order: off";
  return text + "}, ";
}

std::string defaults_text(const ExportOptions& options) {
  const Calibration& how = options.calibration;
  std::string text;
  if (options.group_size > 0) text += fmt::format("group_size: {}, ", options.group_size);
  if (options.svd_rank > 0) text += fmt::format("svd_rank: {}, ", options.svd_rank);
  text += weight_text(how);
  if (how.range == RangeRule::kMinMax) text += "act: {method: minmax}, ";
  if (how.range == RangeRule::kPercentile) text += "act: {method: percentile}, ";
  if (text.empty()) return "";
  return fmt::format("defaults: {{{}}}\n", text.substr(0, text.size() - 2));
}

std::string rule_text(const Rule& rule) {
  std::string text =
      fmt::format("  - {{match: {}, algo: {}", yaml_quoted(rule.pattern), rule.algorithm);
  if (!rule.except.empty()) text += ", except: " + list_of(rule.except);
  if (!rule.reason.empty()) text += ", why: " + yaml_quoted(rule.reason);
  return text + "}\n";
}

std::string attention_text(const AttentionRule& rule) {
  std::string text = "  - {algo: " + rule.algorithm;
  if (!rule.pattern.empty()) text += ", match: " + yaml_quoted(rule.pattern);
  if (rule.head_dim > 0) text += fmt::format(", head_dim: {}", rule.head_dim);
  if (!rule.except.empty()) text += ", exclude: " + list_of(rule.except);
  return text + "}\n";
}

}  // namespace

Recipe parse_recipe(const fs::path& file, std::string_view text) {
  const YamlReader in("recipe", file.string());
  const YAML::Node root = in.parse(text);
  if (is_msmodelslim_recipe(root)) return read_msmodelslim_recipe(in, root);
  return RecipeReader(in, file).read(root);
}

Recipe read_recipe(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in || fs::is_directory(file)) {
    throw Error(ErrorCode::kInput, "the recipe cannot be read", {.file = file.string()});
  }
  std::string text(kMaxRecipe + 1, '\0');  // a pipe has no size
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxRecipe) {
    throw Error(ErrorCode::kInput, "the recipe is too large",
                {.file = file.string(), .expected = fmt::format("at most {} bytes", kMaxRecipe)});
  }
  return parse_recipe(file, text);
}

std::string recipe_text(const fs::path& file, const ExportOptions& options,
                        std::string_view title) {
  std::string comment(title);
  std::ranges::replace_if(
      comment, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  std::string text = fmt::format("# {}\nmezzotint: {}\nmodel: {{preset: {}}}\n", comment,
                                 kRecipeVersion, yaml_quoted(options.preset));
  text += defaults_text(options);
  const Calibration& how = options.calibration;
  if (!how.statistics.empty()) {
    text += fmt::format("calibration: {{stats: {}, smooth: {}",
                        yaml_quoted(statistics_path(file, how.statistics)),
                        how.smoothing == Smoothing::kSearch ? "search" : "none");
    if (how.static_tolerance != kStaticTolerance) {
      text += fmt::format(", static_tolerance: {}", how.static_tolerance);
    }
    text += "}\n";
  }
  if (!options.attentions.empty()) text += "attention:\n";
  for (const AttentionRule& rule : options.attentions) text += attention_text(rule);
  text += "rules:\n";
  for (const Rule& rule : options.rules) text += rule_text(rule);
  return text;
}

}  // namespace mezzotint
