#include "quant/presets.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int kPresetVersion = 1;

// Reads one preset; remembers the file for messages.
class PresetReader {
 public:
  explicit PresetReader(std::string_view file) : file_(file) {}

  Preset read(const YAML::Node& root) const {
    check_keys(root, {"preset", "name", "title", "detect", "absent", "float", "attention",
                      "shared_input"});
    if (scalar<int>(root, "preset") != kPresetVersion) {
      fail("preset", fmt::format("version {}", kPresetVersion), root["preset"].Scalar());
    }
    Preset preset;
    preset.name = scalar<std::string>(root, "name");
    preset.title = scalar<std::string>(root, "title");
    preset.detect = names(root, "detect");
    preset.absent = names(root, "absent");
    if (preset.detect.empty()) fail("detect", "at least one tensor name", "none");
    for (const YAML::Node& node : list(root, "float")) preset.kept.push_back(kept(node));
    for (const YAML::Node& node : list(root, "attention")) {
      preset.attentions.push_back(attention(node));
    }
    for (const YAML::Node& node : list(root, "shared_input")) {
      preset.shared_inputs.push_back(shared_input(node));
    }
    return preset;
  }

  [[noreturn]] void fail(std::string_view key, std::string expected, std::string found) const {
    throw Error(ErrorCode::kInput, fmt::format("preset key '{}'", key),
                {.file = file_, .expected = std::move(expected), .found = std::move(found)});
  }

 private:
  KeptLayers kept(const YAML::Node& node) const {
    check_keys(node, {"layers", "why", "when"});
    KeptLayers kept = {.pattern = pattern(node, "layers"),
                       .why = scalar<std::string>(node, "why"),
                       .when = KeepWhen::kAlways};
    if (!node["when"]) return kept;
    const std::string when = scalar<std::string>(node, "when");
    if (when != "quantized_activations") fail("when", "quantized_activations", when);
    kept.when = KeepWhen::kQuantizedActivations;
    return kept;
  }

  AttentionLayers attention(const YAML::Node& node) const {
    check_keys(node, {"layers", "head_dim", "head_dim_of"});
    AttentionLayers layers;
    layers.pattern = pattern(node, "layers");
    if (node["head_dim"]) layers.head_dim = scalar<int64_t>(node, "head_dim");
    if (node["head_dim_of"]) layers.head_dim_of = scalar<std::string>(node, "head_dim_of");
    if ((layers.head_dim > 0) == !layers.head_dim_of.empty()) {
      fail("attention", "either head_dim or head_dim_of", "both or none");
    }
    return layers;
  }

  SharedInput shared_input(const YAML::Node& node) const {
    check_keys(node, {"parent", "members"});
    SharedInput shared = {.parent = pattern(node, "parent"), .members = names(node, "members")};
    if (shared.members.size() < 2) fail("members", "two or more", "fewer");
    return shared;
  }

  template <typename T>
  T scalar(const YAML::Node& node, const char* key) const {
    const YAML::Node value = node[key];
    if (!value || !value.IsScalar()) fail(key, "a scalar", value ? "another node" : "nothing");
    try {
      return value.as<T>();
    } catch (const YAML::Exception&) {
      fail(key, "a value of the right type", value.Scalar());
    }
  }

  std::string pattern(const YAML::Node& node, const char* key) const {
    std::string text = scalar<std::string>(node, key);
    NamePattern valid(text);  // throws on a bad one
    return text;
  }

  YAML::Node list(const YAML::Node& node, const char* key) const {
    const YAML::Node value = node[key];
    if (!value) return YAML::Node(YAML::NodeType::Sequence);
    if (!value.IsSequence()) fail(key, "a list", "another node");
    return value;
  }

  std::vector<std::string> names(const YAML::Node& node, const char* key) const {
    std::vector<std::string> texts;
    for (const YAML::Node& item : list(node, key)) {
      if (!item.IsScalar()) fail(key, "a list of names", "another node");
      texts.push_back(item.Scalar());
    }
    return texts;
  }

  void check_keys(const YAML::Node& node, std::initializer_list<std::string_view> known) const {
    if (!node.IsMap()) fail("(root)", "a map", "another node");
    for (const auto& entry : node) {
      const std::string key = entry.first.Scalar();
      if (std::ranges::find(known, key) != known.end()) continue;
      const std::vector<std::string_view> candidates(known);
      fail(key, fmt::format("one of {}", fmt::join(candidates, ", ")), "an unknown one");
    }
  }

  std::string file_;
};

}  // namespace

Preset parse_preset(std::string_view file, std::string_view text) {
  const PresetReader reader(file);
  try {
    return reader.read(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    reader.fail("(text)", "YAML", error.what());
  }
}

std::vector<Preset> presets() {
  std::vector<Preset> all;
  for (const PresetText& text : preset_texts()) all.push_back(parse_preset(text.file, text.text));
  std::ranges::sort(all, {}, &Preset::name);
  return all;
}

std::optional<Preset> detect_preset(const WeightStore& store) {
  const auto is_there = [&](const std::string& name) { return store.find(name) != nullptr; };
  for (Preset& preset : presets()) {
    if (std::ranges::all_of(preset.detect, is_there) &&
        std::ranges::none_of(preset.absent, is_there)) {
      return std::move(preset);
    }
  }
  return std::nullopt;
}

std::optional<Preset> choose_preset(std::string_view name, const WeightStore& store) {
  if (name == "none") return std::nullopt;
  if (name == "auto" || name.empty()) return detect_preset(store);
  std::vector<std::string> known = {"auto", "none"};
  for (Preset& preset : presets()) {
    if (preset.name == name) return std::move(preset);
    known.push_back(preset.name);
  }
  throw Error(ErrorCode::kUsage, "unknown preset",
              {.expected = "auto, none or a preset of the library",
               .found = std::string(name),
               .fix = did_you_mean(nearest_names(name, known))});
}

}  // namespace mezzotint
