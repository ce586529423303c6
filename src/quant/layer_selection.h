// Which layers of a bare file get which algorithm.
//
// A layer is a tensor P.weight, 2-D and of a float dtype. --exclude wins, then the first --rule,
// then the preset, then K >= 32 (smaller ones stay float), then --algo. A pattern that matches no
// layer is an Error(kUsage) with the nearest names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"
#include "quant/attention_selection.h"
#include "quant/presets.h"

namespace mezzotint {

// Shorter rows do not pay for a scale, and none of the kernels is fast on them.
inline constexpr int64_t kMinInFeatures = 32;

struct SelectedLayer {
  std::string name;  // P
  int64_t n = 0;
  int64_t k = 0;
  const AlgorithmRow* algorithm = nullptr;  // null: stays float
  std::string reason;                       // why it stays float
  bool has_bias = false;                    // P.bias is a float vector [n]
};

struct LayerSelection {
  std::vector<SelectedLayer> layers;          // in the order of the file
  std::vector<SelectedAttention> attentions;  // of ExportOptions::attentions
  std::vector<std::string> notes;             // rules that never applied
};

LayerSelection select_layers(const WeightStore& source, const ExportOptions& options,
                             const std::optional<Preset>& preset);
// The same for the layers of a model in memory: `selection` has their name, n, k and has_bias.
LayerSelection select_layers(LayerSelection selection, const ExportOptions& options,
                             const std::optional<Preset>& preset);

// Of low-rank branches; ExportOptions::svd_rank may be 0.
int64_t branch_rank(int64_t svd_rank);
// Error(kUsage): a rank is wanted of branches that no layer has.
[[noreturn]] void no_low_rank_branch(int64_t svd_rank);

}  // namespace mezzotint
