#include "quant/presets.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "mezzotint/error.h"
#include "quant/yaml_reader.h"

namespace mezzotint {
namespace {

constexpr int kPresetVersion = 1;

// Reads one preset.
class PresetReader {
 public:
  explicit PresetReader(const YamlReader& in) : in_(in) {}

  Preset read(const YAML::Node& root) const {
    in_.check_keys(root, {"preset", "name", "title", "detect", "absent", "float", "attention",
                          "shared_input"});
    if (in_.integer(root, "preset") != kPresetVersion) {
      in_.fail("preset", fmt::format("version {}", kPresetVersion), root["preset"].Scalar());
    }
    Preset preset;
    preset.name = in_.text(root, "name");
    preset.title = in_.text(root, "title");
    preset.detect = in_.names(root, "detect");
    preset.absent = in_.names(root, "absent");
    if (preset.detect.empty()) in_.fail("detect", "at least one tensor name", "none");
    for (const YAML::Node& node : in_.list(root, "float")) preset.kept.push_back(kept(node));
    for (const YAML::Node& node : in_.list(root, "attention")) {
      preset.attentions.push_back(attention(node));
    }
    for (const YAML::Node& node : in_.list(root, "shared_input")) {
      preset.shared_inputs.push_back(shared_input(node));
    }
    return preset;
  }

 private:
  KeptLayers kept(const YAML::Node& node) const {
    in_.check_keys(node, {"layers", "why", "when"});
    KeptLayers kept = {.pattern = in_.pattern(node, "layers"),
                       .why = in_.text(node, "why"),
                       .when = KeepWhen::kAlways};
    if (!node["when"]) return kept;
    const std::string when = in_.text(node, "when");
    if (when != "quantized_activations") in_.fail("when", "quantized_activations", when);
    kept.when = KeepWhen::kQuantizedActivations;
    return kept;
  }

  AttentionLayers attention(const YAML::Node& node) const {
    in_.check_keys(node, {"layers", "head_dim", "head_dim_of"});
    AttentionLayers layers;
    layers.pattern = in_.pattern(node, "layers");
    if (node["head_dim"]) layers.head_dim = in_.integer(node, "head_dim");
    if (node["head_dim_of"]) layers.head_dim_of = in_.text(node, "head_dim_of");
    if ((layers.head_dim > 0) == !layers.head_dim_of.empty()) {
      in_.fail("attention", "either head_dim or head_dim_of", "both or none");
    }
    return layers;
  }

  SharedInput shared_input(const YAML::Node& node) const {
    in_.check_keys(node, {"parent", "members"});
    SharedInput shared = {.parent = in_.pattern(node, "parent"),
                          .members = in_.names(node, "members")};
    if (shared.members.size() < 2) in_.fail("members", "two or more", "fewer");
    return shared;
  }

  const YamlReader& in_;
};

// What stands before the member that the layer is; empty: it is none.
std::string_view parent_of(const SharedInput& shared, std::string_view layer) {
  for (const std::string& member : shared.members) {
    if (!layer.ends_with("." + member)) continue;
    const std::string_view parent = layer.substr(0, layer.size() - member.size() - 1);
    if (NamePattern(shared.parent).matches(parent)) return parent;
  }
  return {};
}

}  // namespace

Preset parse_preset(std::string_view file, std::string_view text) {
  const YamlReader in("preset", std::string(file));
  return PresetReader(in).read(in.parse(text));
}

std::vector<Preset> presets() {
  std::vector<Preset> all;
  for (const PresetText& text : preset_texts()) all.push_back(parse_preset(text.file, text.text));
  std::ranges::sort(all, {}, &Preset::name);
  return all;
}

bool share_input(const Preset& preset, std::string_view layer, std::string_view other) {
  return std::ranges::any_of(preset.shared_inputs, [&](const SharedInput& shared) {
    const std::string_view parent = parent_of(shared, layer);
    return !parent.empty() && parent == parent_of(shared, other);
  });
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
