// For tests of quantize(): a model of three float linears and files that fit it.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {

inline const ExecContext& context() {
  static const ExecContext ctx({.threads = 2, .log = {.sink = [](LogLevel, std::string_view) {}}});
  return ctx;
}

// Three float linears; b has no bias.
struct TestModel {
  TestModel() {
    std::mt19937_64 random(40);
    add("blocks.0.a", 6, 32, true, random);
    add("blocks.0.b", 5, 48, false, random);
    add("proj_out", 4, 32, true, random);
    for (Linear& linear : linears) map.linears.push_back(&linear);
  }
  void add(const std::string& name, int64_t n, int64_t k, bool bias, std::mt19937_64& random) {
    std::optional<Tensor> b;
    if (bias) b = normal_tensor(DType::kF32, {n}, random);
    linears.push_back(Linear::from_float(name, normal_tensor(DType::kBF16, {n, k}, random), b));
  }

  Tensor output(size_t i) const {
    const Linear& linear = linears[i];
    std::mt19937_64 random(41);
    const Tensor x = normal_tensor(DType::kF32, {3, linear.in_features()}, random);
    Tensor y = Tensor::allocate(DType::kF32, {3, linear.out_features()});
    linear.run({x.raw(), DType::kF32, 3, x.dim(1), x.dim(1)},
               {y.buffer().mutable_data(), DType::kF32, 3, y.dim(1), y.dim(1)}, context());
    return y;
  }

  std::vector<Linear> linears;
  ModuleMap map;
};

// Files for the first two linears; the third is labelled FLOAT.
inline QuantizedFixture fixture(uint64_t seed = 42) {
  std::mt19937_64 random(seed);
  QuantizedFixture files;
  const auto add = [&](const char* algorithm, const char* name, const RandomLayerOptions& options) {
    for (NamedTensor& t : make_random_layer(*find_algorithm(algorithm), name, options, random)) {
      files.tensors.push_back(std::move(t));
    }
  };
  add("W8A8_DYNAMIC", "blocks.0.a", {.dims = {6, 32}, .bias = true, .smoothing = false});
  add("W8A16", "blocks.0.b", {.dims = {5, 48}, .bias = false, .smoothing = true});
  files.tensors.push_back(
      {"proj_out.weight", "FLOAT", normal_tensor(DType::kBF16, {4, 32}, random)});
  return files;
}

inline LayerTensors layer_of(const QuantizedFixture& files, const std::string& layer) {
  LayerTensors tensors;
  for (const NamedTensor& t : files.tensors) {
    if (t.name.starts_with(layer + ".")) tensors.push_back(t);
  }
  return tensors;
}

inline void set_floats(QuantizedFixture& files, const std::string& tensor, size_t at, float value) {
  NamedTensor& t = files.at(tensor);
  std::vector<float> values(static_cast<size_t>(t.tensor.size()));
  widen_into(t.tensor, values);
  values[at] = value;
  t.tensor = float_tensor(DType::kF32, t.tensor.shape(), values);
}

inline void relabel(QuantizedFixture& files, const std::string& layer, const std::string& label) {
  for (NamedTensor& t : files.tensors) {
    if (t.name.starts_with(layer) && t.label != "FLOAT") t.label = label;
  }
}

}  // namespace mezzotint
