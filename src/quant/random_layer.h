// Random valid layers, made from the ParamSpec list of a file contract: what a file may legally
// hold, not only what we write. For tests; the loader's own code plays no part in it.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "quant/algorithm.h"
#include "solve/widen.h"

namespace mezzotint {

struct RandomLayerOptions {
  LayerDims dims{};
  bool bias = true;
  bool smoothing = false;
};

namespace random_layer {

using Random = std::mt19937_64;

template <typename T>
const T& pick(const std::vector<T>& items, Random& random) {
  return items[random() % items.size()];
}

inline float random_float(const ParamSpec& spec, Random& random) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  const float value = normal(random);
  if (spec.values == ValueRule::kZero) return 0.0f;
  if (spec.values == ValueRule::kScale) return 0.01f * std::exp2(value);
  if (spec.part == Part::kSmoothing) return std::exp2(value);
  return value;
}

inline Tensor random_tensor(const ParamSpec& spec, const Shape& shape, Random& random) {
  const DType dtype = pick(std::vector<DType>(spec.dtypes.begin(), spec.dtypes.end()), random);
  Tensor tensor = Tensor::allocate(dtype, shape);
  if (dtype == DType::kI8) {
    std::uniform_int_distribution<int> code(-128, 127);
    int8_t* codes = tensor.mutable_data<int8_t>();
    std::generate_n(codes, tensor.size(), [&] { return static_cast<int8_t>(code(random)); });
    return tensor;
  }
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  std::ranges::generate(values, [&] { return random_float(spec, random); });
  narrow_range(values, tensor, 0);
  return tensor;
}

inline bool has_part(const ParamSpec& spec, const RandomLayerOptions& options, Random& random) {
  if (spec.part == Part::kBias) return options.bias;
  if (spec.part == Part::kSmoothing) return options.smoothing;
  return spec.presence == Presence::kRequired || random() % 2 == 0;
}

}  // namespace random_layer

// Any accepted dtype, any accepted shape form, optional tensors present or not.
inline LayerTensors make_random_layer(const AlgorithmRow& row, const std::string& layer,
                                      const RandomLayerOptions& options,
                                      random_layer::Random& random) {
  LayerTensors tensors;
  const std::string prefix = options.smoothing ? layer + ".linear" : layer;
  for (const ParamSpec& spec : row.contract->params) {
    if (!random_layer::has_part(spec, options, random)) continue;
    const Shape shape = random_layer::pick(accepted_shapes(spec.shapes, options.dims), random);
    const bool is_float = spec.label == LabelRule::kFloat;
    tensors.push_back({.name = tensor_name(spec, layer, prefix),
                       .label = is_float ? "FLOAT" : std::string(row.name),
                       .tensor = random_layer::random_tensor(spec, shape, random)});
  }
  return tensors;
}

}  // namespace mezzotint
