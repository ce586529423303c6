// quantize() for a model whose layers live elsewhere: slots in, layers and a report out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "module_layer.h"
#include "quant/layer_selection.h"
#include "quant/presets.h"

namespace mezzotint {

// A float linear of the model, as far as loading needs to know it.
struct LinearSlot {
  std::string name;
  int64_t n = 0;
  int64_t k = 0;
  bool has_bias = false;
  int64_t bytes = 0;  // of its weight and bias
};

// What a model offers: its linears, and the names of all its modules. Any of these may be an
// attention; only the descriptor says which are.
struct ModelSlots {
  std::vector<LinearSlot> linears;
  std::set<std::string, std::less<>> modules;
};

struct LoadedAttention {
  std::string name;
  Tensor q_rot;  // as stored, mapped
  Tensor k_rot;
};

struct LoadedModel {
  Report report;
  std::vector<HeldLayer> layers;  // those that the descriptor quantizes
  std::vector<LoadedAttention> attentions;
};

// All or nothing, like quantize(), whose errors it throws.
LoadedModel load_model(const ModelSlots& slots, const std::filesystem::path& path,
                       const QuantizeOptions& options, const ExecContext& ctx);

// Which slots quantize_model() quantizes to what: `algorithm` is empty for those that stay float.
struct SlotChoice {
  std::string algorithm;
  std::string reason;
};
SlotChoice choice_of(const SelectedLayer& layer);
LayerSelection select_slots(const std::vector<LinearSlot>& slots, const ExportOptions& options,
                            const std::optional<Preset>& preset);
std::vector<SlotChoice> choose_algorithms(const std::vector<LinearSlot>& slots,
                                          const ExportOptions& options,
                                          const std::optional<Preset>& preset);

}  // namespace mezzotint
