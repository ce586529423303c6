// What the cases of MX layers share: rows of few values, what is written of them, and what files of
// them stand for.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "conformance/fixture.h"

namespace mezzotint::conformance {

inline std::vector<float> sparse_row(size_t k,
                                     const std::vector<std::pair<size_t, float>>& values) {
  std::vector<float> row(k, 0.0f);
  for (const auto& [at, value] : values) row[at] = value;
  return row;
}

// The tensors that we write for w:[1,k].
inline LayerTensors written(const std::string& algorithm, const std::vector<float>& row,
                            Compat compat = Compat::kNone) {
  const FloatLayer layer = {
      .name = "0",
      .weight = float_tensor(DType::kF32, {1, static_cast<int64_t>(row.size())}, row),
      .bias = {}};
  return write_layer_params(*find_algorithm(algorithm), layer, {.compat = compat}, context());
}

inline const Tensor& named(const LayerTensors& tensors, const std::string& name) {
  for (const NamedTensor& t : tensors) {
    if (t.name == name) return t.tensor;
  }
  throw Error(ErrorCode::kInternal, "no tensor " + name);
}

// What the weights of layer "0" stand for, through files.
inline std::vector<float> dequantized(const std::string& algorithm, const LayerTensors& tensors) {
  TestFolder folder;
  dequantize(write_layer(folder, algorithm, tensors), folder / "f.safetensors", {}, context());
  return floats_of(WeightStore::open_file(folder / "f.safetensors").read("0.weight"));
}

}  // namespace mezzotint::conformance
