// Random valid layers, made from the ParamSpec list of a file contract: what a file may legally
// hold, or only what we write. For tests and benchmarks; the loader's own code plays no part in it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "quant/algorithm.h"
#include "quant/coding.h"
#include "solve/widen.h"

namespace mezzotint {

struct RandomLayerOptions {
  LayerDims dims{};  // groups, steps and rank as the layer is to have them
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
  if (spec.values == ValueRule::kScale || spec.values == ValueRule::kPositive) {
    return 0.01f * std::exp2(value);
  }
  if (spec.values == ValueRule::kZeroPoint) return static_cast<float>(random() % 256) - 128.0f;
  if (spec.field == &LinearParams::weight_offset) return static_cast<float>(random() % 9) - 4.0f;
  if (spec.part == Part::kLowRank) return 0.05f * value;
  if (spec.part == Part::kSmoothing) return std::exp2(value);
  return value;
}

// A byte that the coding allows; `one_code` when a byte holds one int4 or e2m1 code.
inline uint8_t random_byte(Coding coding, bool one_code, Random& random) {
  constexpr uint8_t kFp4AsE4M3[] = {0x00, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x48, 0x4c};
  const auto byte = static_cast<uint8_t>(random());
  if (coding == Coding::kE8M0) return static_cast<uint8_t>(115 + byte % 10);
  if (coding == Coding::kE4M3) return (byte & 0x7f) == 0x7f ? 0 : byte;
  if (!one_code) return byte;
  if (coding == Coding::kInt4) return static_cast<uint8_t>(byte % 16 - 8);
  return static_cast<uint8_t>(kFp4AsE4M3[byte % 8] | (byte & 0x80));
}

inline Tensor random_bytes(const ParamSpec& spec, DType dtype, const Shape& shape,
                           const LayerDims& dims, Random& random) {
  Tensor tensor = Tensor::allocate(dtype, shape);
  const bool nibbles = spec.coding == Coding::kInt4 || spec.coding == Coding::kFp4;
  const bool one_code = nibbles && shape == Shape{dims.n, dims.k};
  std::byte* bytes = tensor.buffer().mutable_data();
  for (int64_t i = 0; i < tensor.size(); ++i) {
    bytes[i] = static_cast<std::byte>(random_byte(spec.coding, one_code, random));
  }
  // Two codes a byte: of an odd k the last nibble is nothing.
  for (int64_t n = 0; nibbles && !one_code && dims.k % 2 != 0 && n < shape[0]; ++n) {
    bytes[(n + 1) * shape[1] - 1] &= std::byte{0x0f};
  }
  return tensor;
}

inline Tensor random_integers(DType dtype, const Shape& shape, Random& random) {
  Tensor tensor = Tensor::allocate(dtype, shape);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const auto value = static_cast<int32_t>(random() % 20001) - 10000;
    if (dtype == DType::kI32) {
      tensor.mutable_data<int32_t>()[i] = value;
    } else {  // the bits of a scale
      tensor.mutable_data<int64_t>()[i] = std::bit_cast<int32_t>(0.001f + 1e-7f * std::abs(value));
    }
  }
  return tensor;
}

// Dtype and shape that belong together: two codes a byte are never F8_E4M3, one never U8, and the
// layer's groups are those of all its scales.
struct RandomForm {
  DType dtype;
  Shape shape;
};

inline bool is_allowed(const ParamSpec& spec, const RandomForm& form, const LayerDims& dims) {
  const bool one_code = form.shape == Shape{dims.n, dims.k};
  if (spec.coding == Coding::kFp4) return one_code == (form.dtype == DType::kF8E4M3);
  if (spec.coding == Coding::kInt4) {
    const bool along_n = !one_code && form.shape[0] != dims.n;
    return !(one_code && form.dtype == DType::kU8) && !(along_n && dims.n % 2 != 0);
  }
  const bool grouped = dims.groups > 0 && spec.canonical.ends_with(",G");
  return !grouped || form.shape == Shape{dims.n, dims.groups};
}

inline RandomForm random_form(const ParamSpec& spec, const LayerDims& dims, Random& random) {
  std::vector<RandomForm> forms;
  for (const DType dtype : spec.dtypes) {
    for (const Shape& shape : accepted_shapes(spec.shapes, dims)) {
      const RandomForm form = {dtype, shape};
      if (is_allowed(spec, form, dims)) forms.push_back(form);
    }
  }
  return pick(forms, random);
}

inline Tensor random_tensor(const ParamSpec& spec, const RandomForm& form, const LayerDims& dims,
                            Random& random) {
  const auto& [dtype, shape] = form;
  if (dtype == DType::kI32 || dtype == DType::kI64) return random_integers(dtype, shape, random);
  if (!is_floating(dtype)) return random_bytes(spec, dtype, shape, dims, random);
  Tensor tensor = Tensor::allocate(dtype, shape);
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  std::ranges::generate(values, [&] { return random_float(spec, random); });
  narrow_range(values, tensor, 0);
  return tensor;
}

inline bool has_part(const ParamSpec& spec, const RandomLayerOptions& options, Random& random) {
  if (spec.part == Part::kLowRank) return options.dims.rank > 0;
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
    const bool is_float = spec.label == LabelRule::kFloat;
    tensors.push_back(
        {.name = tensor_name(spec, layer, prefix),
         .label = is_float ? "FLOAT" : std::string(row.name),
         .tensor = random_layer::random_tensor(
             spec, random_layer::random_form(spec, options.dims, random), options.dims, random)});
  }
  return tensors;
}

// The dtypes, shapes and parts that write_layer_params gives, offsets zero: what a layer of ours
// costs in bytes and time. Works for algorithms that need statistics as well.
inline LayerTensors make_written_layer(const AlgorithmRow& row, const std::string& layer,
                                       const LayerDims& dims, HasBias has_bias,
                                       random_layer::Random& random) {
  LayerTensors tensors;
  for (const ParamSpec& spec : row.contract->params) {
    const bool written = spec.part == Part::kCore ||
                         (spec.part == Part::kBias && has_bias == HasBias::kYes) ||
                         (spec.part == Part::kLowRank && row.parameters.low_rank);
    if (!written) continue;
    ParamSpec filled = spec;
    if (spec.field == &LinearParams::weight_offset) filled.values = ValueRule::kZero;
    const WrittenForm form = written_form(spec, dims, Compat::kNone);
    tensors.push_back(
        {.name = tensor_name(spec, layer, layer),
         .label = spec.label == LabelRule::kFloat ? "FLOAT" : std::string(row.name),
         .tensor = random_layer::random_tensor(filled, {form.dtype, form.shape}, dims, random)});
  }
  return tensors;
}

}  // namespace mezzotint
