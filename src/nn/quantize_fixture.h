// For tests of quantize(): a model of three float linears and an attention, and files that fit it.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"
#include "quant/attention_file.h"
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
    map.attentions.push_back(&attention);
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

  // Of the attention, [1,20,1,kHeadDim].
  Tensor attended() const {
    std::mt19937_64 random(43);
    constexpr int64_t kSeq = 20;
    std::vector<Tensor> rows;
    for (int i = 0; i < 3; ++i)
      rows.push_back(normal_tensor(DType::kF32, {kSeq, kHeadDim}, random));
    rows.push_back(Tensor::allocate(DType::kF32, {kSeq, kHeadDim}));
    const auto view = [&](size_t i) {
      return HeadsView{.data = rows[i].buffer().mutable_data(),
                       .batch = 1,
                       .seq = kSeq,
                       .heads = 1,
                       .dim = kHeadDim,
                       .batch_stride = kSeq * kHeadDim,
                       .seq_stride = kHeadDim,
                       .head_stride = kHeadDim};
    };
    attention.run(view(0), view(1), view(2), view(3), {.scale = 0.25f}, context());
    return rows[3];
  }

  static constexpr int64_t kHeadDim = 16;
  std::vector<Linear> linears;
  Attention attention{"blocks.0.attn", {.heads = 1, .head_dim = kHeadDim}};
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

// Adds what FP8_DYNAMIC attention has in files to those of the linears.
inline void add_attention(QuantizedFixture& files, const std::string& layer = "blocks.0.attn",
                          int64_t head_dim = TestModel::kHeadDim) {
  const AlgorithmRow& row = served_attention("FP8_DYNAMIC");
  for (NamedTensor& t : write_attention_params(row, layer, head_dim)) {
    files.tensors.push_back(std::move(t));
  }
  files.extra_labels.emplace_back(layer + ".quant_type", "FP8_DYNAMIC");
}

inline LayerTensors layer_of(const QuantizedFixture& files, const std::string& layer) {
  LayerTensors tensors;
  for (const NamedTensor& t : files.tensors) {
    if (t.name.starts_with(layer + ".")) tensors.push_back(t);
  }
  return tensors;
}

inline float float_at(QuantizedFixture& files, const std::string& tensor, size_t at) {
  const Tensor wide = widened(files.at(tensor).tensor);
  return wide.data<float>()[at];
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
