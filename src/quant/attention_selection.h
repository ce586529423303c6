// Which attentions of a bare file get which algorithm: those that the preset knows, or every module
// that a pattern names, whose head_dim the caller then says. A module is a dotted name that tensors
// stand below, other than a layer's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"
#include "quant/presets.h"

namespace mezzotint {

struct SelectedAttention {
  std::string name;  // A
  int64_t head_dim = 0;
  const AlgorithmRow* algorithm = nullptr;  // null: stays float
  std::string reason;                       // why it stays float
};

// By name; none when options.attentions is empty. Throws Error(kUsage) for a rule that names no
// attention, and for one without head_dim where no preset fits.
std::vector<SelectedAttention> select_attentions(const WeightStore& source,
                                                 const ExportOptions& options,
                                                 const std::optional<Preset>& preset);

}  // namespace mezzotint
