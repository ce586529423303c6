#include "quant/msmodelslim_recipe.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/error.h"
#include "quant/algorithm.h"

namespace mezzotint {
namespace {

constexpr std::string_view kVersion = "multimodal_sd_modelslim_v1";
constexpr std::string_view kAll = "*";
constexpr int64_t kGigabyte = 1'000'000'000;

// A number format of their linear_quant, and the algorithm it is.
struct NumberFormat {
  std::string_view act, act_scope, weight, weight_scope;
  std::string_view algorithm;
  std::string_view with_svd = {};   // after svd_res
  std::string_view with_gptq = {};  // weight method gptq
  std::string_view with_awq = {};   // after awq
};

constexpr std::array kFormats = {
    NumberFormat{"float", "", "int8", "per_channel", "W8A16", "", "W8A16_GPTQ"},
    NumberFormat{"float", "", "int4", "per_channel", "W4A16", "", "W4A16_GPTQ", "W4A16_AWQ"},
    NumberFormat{"float", "", "int4", "per_group", "W4A16", "", "W4A16_GPTQ", "W4A16_AWQ"},
    NumberFormat{"int8", "per_token", "int8", "per_channel", "W8A8_DYNAMIC"},
    NumberFormat{"int8", "per_token", "int8", "per_tensor", "W8A8_PER_TENSOR_PER_TOKEN"},
    NumberFormat{"int8", "per_tensor", "int8", "per_channel", "W8A8"},
    NumberFormat{"int8", "per_tensor", "int8", "per_tensor", "W8A8_PER_TENSOR"},
    NumberFormat{"int4", "per_token", "int4", "per_channel", "W4A4_DYNAMIC"},
    NumberFormat{"mxfp8", "per_block", "mxfp8", "per_block", "W8A8_MXFP8"},
    NumberFormat{"mxfp4", "per_block", "mxfp4", "per_block", "W4A4_MXFP4", "W4A4_MXFP4_SVD"},
    NumberFormat{"mxfp4", "dual_scale", "mxfp4", "dual_scale", "W4A4_MXFP4_DUALSCALE"},
};

// One linear_quant: which layers, and what they become.
struct Entry {
  std::string algorithm;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  YAML::Node node;

  bool has_all() const { return std::ranges::find(include, kAll) != include.end(); }
};

class Reader {
 public:
  explicit Reader(const YamlReader& in) : in_(in) {}

  Recipe read(const YAML::Node& root) {
    in_.choice<int>(root, "apiversion", {{kVersion, 0}});
    // Other keys of the root hold anchors.
    const YAML::Node spec = root["spec"];
    if (!spec) in_.fail("spec", "a map with process", "nothing", root);
    in_.check_keys(spec, {"runner", "process", "save", "dataset", "multimodal_sd_config"});
    recipe_.options.calibration.smoothing = Smoothing::kNone;
    for (const YAML::Node& process : in_.list(spec, "process")) read_process(process);
    add_rules();
    for (const YAML::Node& saver : in_.list(spec, "save")) read_saver(saver);
    if (spec["runner"]) note("spec.runner", "layers are quantized one at a time in any case");
    if (spec["dataset"]) note("spec.dataset", "mezzotint collect gathers statistics");
    if (spec["multimodal_sd_config"]) {
      note("spec.multimodal_sd_config", "it configures a run of the model");
    }
    return std::move(recipe_);
  }

 private:
  void note(std::string_view what, std::string_view why) {
    recipe_.notes.push_back(fmt::format("{} says nothing to an export: {}", what, why));
  }

  [[noreturn]] void unsupported(std::string what, std::string expected, std::string found,
                                std::string fix = {}) const {
    throw Error(ErrorCode::kUnsupported, what,
                {.file = in_.file(),
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .fix = std::move(fix)});
  }

  void read_process(const YAML::Node& node) {
    using Step = void (Reader::*)(const YAML::Node&);
    const Step step = in_.choice<Step>(node, "type",
                                       {{"linear_quant", &Reader::read_linear},
                                        {"fa3_quant", &Reader::read_attention},
                                        {"online_quarot", &Reader::read_rotation},
                                        {"svd_res", &Reader::read_low_rank},
                                        {"smooth_quant", &Reader::read_smoothing},
                                        {"iter_smooth", &Reader::read_smoothing},
                                        {"flex_smooth_quant", &Reader::read_smoothing},
                                        {"flex_awq_ssz", &Reader::read_smoothing},
                                        {"awq", &Reader::read_awq}});
    (this->*step)(node);
  }

  // What upstream applies to some layers and we to all.
  void require_all(const YAML::Node& node) const {
    const std::vector<std::string> include = in_.names(node, "include");
    const bool all = include.empty() || include == std::vector<std::string>{std::string(kAll)};
    if (all && in_.names(node, "exclude").empty()) return;
    unsupported(fmt::format("{} for some layers only", in_.text(node, "type")),
                "include [\"*\"] without exclude", "other patterns", "leave them out");
  }

  void read_smoothing(const YAML::Node& node) {
    in_.check_keys(node, {"type", "alpha", "beta", "scale_min", "symmetric", "enable_subgraph_type",
                          "qconfig", "include", "exclude"});
    require_all(node);
    if (node["symmetric"] && !in_.flag(node, "symmetric")) {
      unsupported("smoothing that shifts", "symmetric: True", "False");
    }
    for (const char* key : {"alpha", "beta", "enable_subgraph_type"}) {
      if (node[key]) note(key, "smoothing is searched, of every layer's own input");
    }
    recipe_.options.calibration.smoothing = Smoothing::kSearch;
  }

  void read_awq(const YAML::Node& node) {
    in_.check_keys(
        node, {"type", "weight_qconfig", "enable_subgraph_type", "n_grid", "include", "exclude"});
    require_all(node);
    awq_ = true;
  }

  void read_low_rank(const YAML::Node& node) {
    in_.check_keys(node, {"type", "rank", "include", "exclude"});
    require_all(node);
    if (node["rank"]) recipe_.options.svd_rank = in_.integer(node, "rank");
    if (recipe_.options.svd_rank < 0) in_.fail("rank", "1 or more", node["rank"].Scalar(), node);
    low_rank_ = true;
  }

  // Our FP8 attention always has the rotation, so its own patterns say nothing more.
  void read_rotation(const YAML::Node& node) {
    in_.check_keys(node, {"type", "include", "exclude", "block_size"});
    if (node["block_size"] && in_.integer(node, "block_size") != -1) {
      unsupported("rotation by blocks", "block_size: -1", in_.text(node, "block_size"));
    }
  }

  void read_attention(const YAML::Node& node) {
    in_.check_keys(node, {"type", "qconfig", "include", "exclude"});
    const YAML::Node format = node["qconfig"];
    if (!format) in_.fail("qconfig", "a map", "nothing", node);
    in_.check_keys(format, {"dtype", "scope", "symmetric", "method", "ext"});
    const std::string dtype = in_.text(format, "dtype"), scope = in_.text(format, "scope");
    if (dtype != "fp8_e4m3" || scope != "per_token") {
      unsupported("an attention format", "fp8_e4m3 per_token (FP8_DYNAMIC)",
                  fmt::format("{} {}", dtype, scope),
                  "leave this fa3_quant out: its attentions stay float");
    }
    AttentionRule rule = {.algorithm = "FP8_DYNAMIC", .except = in_.patterns(node, "exclude")};
    for (const std::string& pattern : included(node)) {
      rule.pattern = pattern == kAll ? "" : pattern;  // "": what the preset knows
      recipe_.options.attentions.push_back(rule);
    }
  }

  std::vector<std::string> included(const YAML::Node& node) const {
    std::vector<std::string> patterns = in_.patterns(node, "include");
    if (patterns.empty()) patterns.emplace_back(kAll);
    return patterns;
  }

  void read_linear(const YAML::Node& node) {
    in_.check_keys(node, {"type", "qconfig", "include", "exclude"});
    const YAML::Node format = node["qconfig"];
    if (!format) in_.fail("qconfig", "a map with act and weight", "nothing", node);
    in_.check_keys(format, {"act", "weight"});
    entries_.push_back({.algorithm = algorithm_of(format),
                        .include = included(node),
                        .exclude = in_.patterns(node, "exclude"),
                        .node = node});
  }

  std::string algorithm_of(const YAML::Node& format) {
    const YAML::Node act = format["act"], weight = format["weight"];
    if (!weight) in_.fail("weight", "a map with dtype and scope", "nothing", format);
    for (const YAML::Node& part : {act, weight}) {
      if (part) in_.check_keys(part, {"dtype", "scope", "symmetric", "method", "ext"});
    }
    const std::string act_type = act ? in_.text(act, "dtype") : "float";
    const std::string act_scope = act && act_type != "float" ? in_.text(act, "scope") : "";
    const std::string weight_type = in_.text(weight, "dtype");
    const std::string weight_scope = in_.text(weight, "scope");
    if (weight["symmetric"] && !in_.flag(weight, "symmetric")) {
      unsupported("weights with offsets", "symmetric: True", "False");
    }
    read_methods(act, weight);
    for (const NumberFormat& known : kFormats) {
      if (known.act != act_type || known.act_scope != act_scope || known.weight != weight_type ||
          known.weight_scope != weight_scope) {
        continue;
      }
      const bool gptq = in_.text(weight, "method") == "gptq";
      if (gptq && !known.with_gptq.empty()) return std::string(known.with_gptq);
      if (gptq) recipe_.options.calibration.feedback = ErrorFeedback::kAlways;
      if (low_rank_ && !known.with_svd.empty()) return std::string(known.with_svd);
      if (awq_ && !known.with_awq.empty()) return std::string(known.with_awq);
      return std::string(known.algorithm);
    }
    unsupported(
        "a number format of linear_quant", known_formats(),
        fmt::format("act {} {}, weight {} {}", act_type, act_scope, weight_type, weight_scope));
  }

  void read_methods(const YAML::Node& act, const YAML::Node& weight) {
    in_.choice<int>(weight, "method",
                    {{"minmax", 0},
                     {"ssz", 0},
                     {"gptq", 0},
                     {"mse_round", 0},
                     {"ceil_x", 0},
                     {"fouroversix", 0},
                     {"dualscale", 0}});
    if (const YAML::Node ext = weight["ext"]) {
      in_.check_keys(ext, {"group_size", "enable_search", "dual_block_size", "step"});
      if (ext["group_size"]) recipe_.options.group_size = in_.integer(ext, "group_size");
    }
    if (!act) return;
    const auto range = in_.choice<RangeRule>(act, "method",
                                             {{"minmax", RangeRule::kMinMax},
                                              {"histogram", RangeRule::kMse},
                                              {"dualscale", RangeRule::kMse},
                                              {"none", RangeRule::kMse}});
    if (in_.text(act, "scope") == "per_tensor") recipe_.options.calibration.range = range;
  }

  static std::string known_formats() {
    std::vector<std::string> texts;
    for (const NumberFormat& known : kFormats) {
      texts.push_back(fmt::format("act {} {}, weight {} {}", known.act, known.act_scope,
                                  known.weight, known.weight_scope));
    }
    return fmt::format("one of {}", fmt::join(texts, "; "));
  }

  // Upstream's first entry that names a layer quantizes it. One that names all is our default,
  // which leaves the layers of the preset float; what it excludes goes to a later entry, or stays
  // float.
  void add_rules() {
    const Entry* all = nullptr;
    for (const Entry& entry : entries_) {
      if (all == nullptr && entry.has_all()) {
        all = &entry;
        recipe_.options.algorithm = entry.algorithm;
        continue;
      }
      const std::vector<std::string>& named =
          all != nullptr && entry.has_all() ? all->exclude : entry.include;
      for (const std::string& pattern : named) {
        if (all != nullptr) require_excluded(*all, pattern, entry.node);
        recipe_.options.rules.push_back(
            {.pattern = pattern, .algorithm = entry.algorithm, .except = entry.exclude});
      }
    }
    if (all != nullptr) keep_excluded(*all);
  }

  void require_excluded(const Entry& all, const std::string& pattern,
                        const YAML::Node& where) const {
    if (std::ranges::find(all.exclude, pattern) != all.exclude.end()) return;
    in_.fail("include", "patterns that the earlier linear_quant of \"*\" excludes", pattern, where,
             "add it to that one's exclude list, or put this one first");
  }

  void keep_excluded(const Entry& all) {
    std::vector<Rule>& rules = recipe_.options.rules;
    for (const std::string& pattern : all.exclude) {
      if (std::ranges::find(rules, pattern, &Rule::pattern) != rules.end()) continue;
      rules.push_back({.pattern = pattern,
                       .algorithm = "float",
                       .reason = fmt::format("exclude {} of the recipe", pattern)});
    }
  }

  void read_saver(const YAML::Node& node) {
    in_.check_keys(node, {"type", "part_file_size"});
    in_.choice<int>(node, "type", {{"mindie_format_saver", 0}});
    if (node["part_file_size"]) {
      recipe_.options.max_shard_bytes = in_.integer(node, "part_file_size") * kGigabyte;
    }
  }

  const YamlReader& in_;
  Recipe recipe_;
  std::vector<Entry> entries_;
  bool low_rank_ = false;
  bool awq_ = false;
};

}  // namespace

bool is_msmodelslim_recipe(const YAML::Node& root) {
  return root.IsMap() && root["apiversion"].IsDefined();
}

Recipe read_msmodelslim_recipe(const YamlReader& in, const YAML::Node& root) {
  return Reader(in).read(root);
}

}  // namespace mezzotint
