// What is known of an architecture: which tensors give it away, which layers stay float and why,
// where its attentions are and which linears share an input. The texts are presets/*.yaml, compiled
// into the library.
//
//   const std::optional<Preset> preset = detect_preset(store);
//
// Everything here is immutable and thread-safe; a text is parsed when it is asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/weights.h"

namespace mezzotint {

struct PresetText {
  std::string_view file;  // "presets/flux.yaml"
  std::string_view text;
};
std::span<const PresetText> preset_texts();

enum class KeepWhen : uint8_t { kAlways, kQuantizedActivations };

struct KeptLayers {
  std::string pattern;  // over layer names (base/glob.h)
  std::string why;
  KeepWhen when = KeepWhen::kAlways;
};

struct AttentionLayers {
  std::string pattern;
  int64_t head_dim = 0;     // or, when 0:
  std::string head_dim_of;  // the length of this tensor of the layer
};

struct SharedInput {
  std::string parent;                // pattern
  std::vector<std::string> members;  // names below the parent
};

struct Preset {
  std::string name;
  std::string title;
  std::vector<std::string> detect;  // tensors that must all be there
  std::vector<std::string> absent;  // and those that must not
  std::vector<KeptLayers> kept;
  std::vector<AttentionLayers> attentions;
  std::vector<SharedInput> shared_inputs;
};

// Throws Error(kInput) naming file and key: an unknown key, a missing one, a wrong type.
Preset parse_preset(std::string_view file, std::string_view text);

std::vector<Preset> presets();  // by name

// Whether both layers are members of one shared input of the same parent.
bool share_input(const Preset& preset, std::string_view layer, std::string_view other);

// "auto" detects (nullopt when nothing fits), "none" is nullopt, else the preset of this name or
// Error(kUsage) that lists the nearest.
std::optional<Preset> choose_preset(std::string_view name, const WeightStore& store);
std::optional<Preset> detect_preset(const WeightStore& store);

}  // namespace mezzotint
