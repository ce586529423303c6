// What the conformance cases share: a model whose only layer is "0", tensors given element by
// element, and files under any name.
#pragma once

#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/quantize.h"
#include "nn/quantize_fixture.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"
#include "solve/widen.h"

namespace mezzotint::conformance {

// Sequential(Linear(k, n)) of the cases.
struct OneLinear {
  OneLinear(int64_t n, int64_t k, bool bias) : OneLinear("0", n, k, bias) {}
  OneLinear(const std::string& name, int64_t n, int64_t k, bool bias) {
    std::mt19937_64 random(7);
    std::optional<Tensor> b;
    if (bias) b = normal_tensor(DType::kF32, {n}, random);
    linear = Linear::from_float(name, normal_tensor(DType::kF32, {n, k}, random), b);
    map.linears.push_back(&linear);
  }
  OneLinear(const OneLinear&) = delete;
  OneLinear& operator=(const OneLinear&) = delete;

  bool is_float() const { return linear.algorithm() == "FLOAT"; }

  Linear linear;
  ModuleMap map;
};

template <typename T>
Tensor tensor_of(const std::vector<T>& values, const Shape& shape) {
  return Tensor::copy_of(std::span<const T>(values), shape);
}

inline const QuantizeOptions kUpstream = {.compat = Compat::kUpstream};
// Of cases that expect the same of both.
inline const std::vector<QuantizeOptions> kEitherWay = {{}, kUpstream};

inline Error load_error(const ModuleMap& model, const std::filesystem::path& path,
                        const QuantizeOptions& options) {
  return error_of([&] { quantize(model, path, options, context()); });
}

inline bool has_text(const std::vector<std::string>& lines, std::string_view text) {
  return std::ranges::any_of(
      lines, [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

// Codes of any one-byte dtype.
inline Tensor code_tensor(DType dtype, const Shape& shape, const std::vector<uint8_t>& bytes) {
  Tensor tensor = Tensor::allocate(dtype, shape);
  std::memcpy(tensor.buffer().mutable_data(), bytes.data(), bytes.size());
  return tensor;
}

inline std::vector<uint8_t> bytes_of(const Tensor& tensor) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(tensor.raw());
  return {bytes, bytes + tensor.byte_size()};
}

inline std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  widen_into(tensor, values);
  return values;
}

// y:[m,n] of x:[m,k], both of this dtype.
inline Tensor outputs(const Linear& linear, const Tensor& x, const ExecContext& ctx) {
  const int64_t m = x.dim(0);
  Tensor y = Tensor::allocate(x.dtype(), {m, linear.out_features()});
  linear.run({x.raw(), x.dtype(), m, x.dim(1), x.dim(1)},
             {y.buffer().mutable_data(), x.dtype(), m, y.dim(1), y.dim(1)}, ctx);
  return y;
}
inline std::vector<float> outputs(const Linear& linear, const Tensor& x) {
  return floats_of(outputs(linear, x, context()));
}

// Rows of the identity: y[k,n] is then the weight [n,k] of a layer that keeps x float.
inline Tensor identity(int64_t k) {
  std::vector<float> values(static_cast<size_t>(k * k), 0.0f);
  for (int64_t i = 0; i < k; ++i) values[static_cast<size_t>(i * k + i)] = 1.0f;
  return float_tensor(DType::kF32, {k, k}, values);
}

inline LayerTensors random_layer_of(const std::string& algorithm, const std::string& layer,
                                    const RandomLayerOptions& options, uint64_t seed = 11) {
  std::mt19937_64 random(seed);
  return make_random_layer(*find_algorithm(algorithm), layer, options, random);
}

// A folder of the tensors of one layer, under the names that the writer gives.
inline std::filesystem::path write_layer(const TestFolder& folder, const std::string& algorithm,
                                         LayerTensors tensors) {
  QuantizedFixture files;
  files.type = algorithm;
  files.tensors = std::move(tensors);
  return files.write(folder.path());
}

// A static W8A8 layer "0" of 6 x 32 with a bias, the weights and a descriptor of any text.
struct StaticFiles {
  explicit StaticFiles(const std::string& weights = "quant_model_weight_w8a8.safetensors") {
    write_weights(folder / weights, tensors);
  }
  std::filesystem::path describe(const std::string& name, const std::string& json) const {
    write_text(folder / name, json);
    std::filesystem::permissions(folder / name, std::filesystem::perms{0640});
    return folder / name;
  }

  TestFolder folder;
  LayerTensors tensors =
      random_layer_of("W8A8", "0", {.dims = {.n = 6, .k = 32}, .bias = true, .smoothing = false});
};

inline constexpr const char* kStaticDescriptor =
    R"({"0.weight": "W8A8", "model_quant_type": "W8A8"})";

// The layer of case 19: K = 8, N = 3.
inline LayerTensors static_layer() {
  const std::vector<int8_t> w = {1, -2, 3, 4, 5,    6,   -7, 8, 0, 0, 0, 0,
                                 0, 0,  0, 1, -128, 127, 1,  1, 1, 1, 1, 1};
  return {{"0.weight", "W8A8", tensor_of(w, {3, 8})},
          {"0.quant_bias", "W8A8", tensor_of<int32_t>({590, -120, 25}, {3})},
          {"0.input_scale", "W8A8", float_tensor(DType::kF32, {1}, {0.1f})},
          {"0.input_offset", "W8A8", float_tensor(DType::kF32, {1}, {-5})},
          {"0.deq_scale", "W8A8", float_tensor(DType::kF32, {3}, {.001f, .002f, .003f})},
          {"0.bias", "FLOAT", float_tensor(DType::kF32, {3}, {.5f, -.25f, 0})}};
}

// |a - b| / |b| over all elements.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return std::sqrt(error / size);
}

}  // namespace mezzotint::conformance
