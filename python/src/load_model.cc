#include "load_model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "quant/quantized_folder.h"

namespace mezzotint {
namespace {

// A linear that says what it is and holds nothing.
Linear empty_linear(const LinearSlot& slot) {
  LinearState state;
  state.algorithm = "FLOAT";
  state.plan.n = slot.n;
  state.plan.k = slot.k;
  state.plan.has_bias = slot.has_bias;
  return {slot.name, slot.n, slot.k, std::make_shared<const LinearState>(std::move(state))};
}

std::vector<TensorPlan> forms_in_file(const QuantizedFolder& folder, const LayerEntry& entry) {
  std::vector<TensorPlan> forms;
  for (const LayerTensor& tensor : layer_tensors(folder, entry)) {
    forms.push_back({.name = tensor.info->name.substr(entry.layer.size() + 1),
                     .dtype = tensor.info->dtype,
                     .shape = tensor.info->shape});
  }
  return forms;
}

// An empty linear counts nothing: its bytes are those of the module.
void count_float_bytes(const std::vector<LinearSlot>& slots, Report& report) {
  for (size_t i = 0; i < slots.size(); ++i) {
    LayerReport& row = report.layers[i];
    const int64_t kept = row.bytes_after == 0 ? slots[i].bytes : 0;
    report.bytes_before += slots[i].bytes - row.bytes_before;
    report.bytes_after += kept;
    row.bytes_before = slots[i].bytes;
    row.bytes_after += kept;
  }
}

// The module's buffers may be a little more than the state: segments of "packed" are aligned.
void count_parts(const HeldLayer& layer, Report& report) {
  int64_t bytes = 0;
  for (const ModulePart& part : layer.parts) bytes += part.tensor.byte_size();
  const auto row =
      std::ranges::find(report.layers, layer.layer.description().name, &LayerReport::name);
  report.bytes_after += bytes - row->bytes_after;
  row->bytes_after = bytes;
}

// Slots for the attentions of the files that the model has modules for; a call knows the heads.
std::vector<Attention> attention_slots(const ModelSlots& slots, const QuantizedFolder& folder) {
  std::vector<Attention> attentions;
  for (const AttentionEntry& entry : folder.attentions) {
    if (!slots.modules.contains(entry.layer)) continue;
    const std::vector<LayerTensor> tensors = attention_tensors(folder, entry);
    const bool has_shape = !tensors.empty() && tensors[0].info->shape.size() == 2;
    const int64_t head_dim = has_shape ? std::max<int64_t>(tensors[0].info->shape[0], 1) : 1;
    attentions.emplace_back(entry.layer, AttentionShape{.heads = 1, .head_dim = head_dim});
  }
  return attentions;
}

std::vector<HeldLayer> take_layers(std::vector<Linear>& linears, const QuantizedFolder& folder,
                                   const QuantizeOptions& options, Report& report) {
  std::map<std::string, Linear*, std::less<>> quantized;
  for (Linear& linear : linears) {
    if (linear.algorithm() != "FLOAT") quantized[linear.name()] = &linear;
  }
  std::vector<HeldLayer> layers;
  for (const LayerEntry& entry : folder.layers) {
    const auto it = quantized.find(entry.layer);
    if (it == quantized.end()) continue;
    Linear& linear = *it->second;
    layers.push_back(hold_layer({.name = entry.layer,
                                 .algorithm = {},
                                 .n = linear.out_features(),
                                 .k = linear.in_features(),
                                 .compat = options.compat},
                                forms_in_file(folder, entry), *linear.state()));
    linear = {};  // what was put together anew is not held twice
    count_parts(layers.back(), report);
  }
  return layers;
}

}  // namespace

LoadedModel load_model(const ModelSlots& slots, const std::filesystem::path& path,
                       const QuantizeOptions& options, const ExecContext& ctx) {
  const QuantizedFolder folder = open_quantized(path, options.rank, options.compat);
  std::vector<Linear> linears;
  linears.reserve(slots.linears.size());
  for (const LinearSlot& slot : slots.linears) linears.push_back(empty_linear(slot));
  std::vector<Attention> attentions = attention_slots(slots, folder);
  ModuleMap map;
  for (Linear& linear : linears) map.linears.push_back(&linear);
  for (Attention& attention : attentions) map.attentions.push_back(&attention);
  LoadedModel loaded;
  loaded.report = quantize(map, path, options, ctx);
  count_float_bytes(slots.linears, loaded.report);
  loaded.layers = take_layers(linears, folder, options, loaded.report);
  for (const Attention& attention : attentions) {
    if (attention.state() == nullptr) continue;
    const std::string& name = attention.name();
    loaded.attentions.push_back({.name = name,
                                 .q_rot = folder.weights.read(name + ".q_rot"),
                                 .k_rot = folder.weights.read(name + ".k_rot")});
  }
  return loaded;
}

SlotChoice choice_of(const SelectedLayer& layer) {
  if (layer.algorithm == nullptr) return {.algorithm = "", .reason = layer.reason};
  return {.algorithm = std::string(layer.algorithm->canonical), .reason = layer.reason};
}

LayerSelection select_slots(const std::vector<LinearSlot>& slots, const ExportOptions& options,
                            const std::optional<Preset>& preset) {
  LayerSelection selection;
  for (const LinearSlot& slot : slots) {
    selection.layers.push_back({.name = slot.name,
                                .n = slot.n,
                                .k = slot.k,
                                .algorithm = nullptr,
                                .reason = {},
                                .has_bias = slot.has_bias});
  }
  selection = select_layers(std::move(selection), options, preset);
  const bool any_branch = std::ranges::any_of(selection.layers, [](const SelectedLayer& layer) {
    return layer.algorithm != nullptr && layer.algorithm->parameters.low_rank;
  });
  if (options.svd_rank != 0 && !any_branch) no_low_rank_branch(options.svd_rank);
  return selection;
}

std::vector<SlotChoice> choose_algorithms(const std::vector<LinearSlot>& slots,
                                          const ExportOptions& options,
                                          const std::optional<Preset>& preset) {
  std::vector<SlotChoice> choices;
  for (const SelectedLayer& layer : select_slots(slots, options, preset).layers) {
    choices.push_back(choice_of(layer));
  }
  return choices;
}

}  // namespace mezzotint
