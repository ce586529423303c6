// How Python tells of a model's layers, and is told what becomes of them.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "load_model.h"
#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"
#include "torch_tensor.h"

namespace mezzotint {

// name, out_features, in_features, has a bias, bytes
using SlotTuple = std::tuple<std::string, int64_t, int64_t, bool, int64_t>;
using RuleTuples = std::vector<std::pair<std::string, std::string>>;  // pattern, algorithm
using NamedTorchTensors = std::vector<std::pair<std::string, TorchTensor>>;

inline std::vector<LinearSlot> slots_of(const std::vector<SlotTuple>& tuples) {
  std::vector<LinearSlot> slots;
  for (const auto& [name, n, k, has_bias, bytes] : tuples) {
    slots.push_back({.name = name, .n = n, .k = k, .has_bias = has_bias, .bytes = bytes});
  }
  return slots;
}

inline ExportOptions selection_options(const std::string& algorithm, const RuleTuples& rules,
                                       const std::vector<std::string>& exclude) {
  ExportOptions options = {.algorithm = algorithm, .exclude = exclude};
  for (const auto& [pattern, name] : rules) {
    options.rules.push_back({.pattern = pattern, .algorithm = name});
  }
  return options;
}

inline std::vector<std::pair<std::string, std::string>> choice_tuples(
    const std::vector<SlotChoice>& choices) {
  std::vector<std::pair<std::string, std::string>> tuples;
  for (const SlotChoice& choice : choices) tuples.emplace_back(choice.algorithm, choice.reason);
  return tuples;
}

inline WeightStore store_of(const NamedTorchTensors& tensors) {
  std::vector<std::pair<std::string, Tensor>> named;
  for (const auto& [name, tensor] : tensors) named.emplace_back(name, borrowed(tensor));
  return WeightStore::of_tensors(std::move(named));
}

}  // namespace mezzotint
