// Conformance case 28: smoothed layers.
#include <gtest/gtest.h>

#include "conformance/fixture.h"

namespace mezzotint::conformance {
namespace {

// A float layer [n,k] and what a smoothed file of it holds.
struct Smoothed {
  static constexpr int64_t kN = 24;
  static constexpr int64_t kK = 96;

  explicit Smoothed(const std::string& algorithm) {
    std::mt19937_64 random(28);
    weight = normal_tensor(DType::kF32, {kN, kK}, random);
    std::vector<float> scaled = floats_of(weight);
    std::vector<float> mul;
    for (size_t k = 0; k < kK; ++k) {
      mul.push_back(k % 3 == 0 ? 0.5f : 1.0f);  // 1 / s
      for (size_t n = 0; n < kN; ++n) scaled[n * kK + k] /= mul[k];
    }
    const FloatLayer layer = {
        .name = "0.linear", .weight = float_tensor(DType::kF32, {kN, kK}, scaled), .bias = {}};
    const bool is_static = algorithm == "W8A8";
    tensors = write_layer_params(*find_algorithm(is_static ? "W8A8_DYNAMIC" : algorithm), layer, {},
                                 context());
    if (is_static) make_static();
    tensors.push_back({"0.div.mul_scale", "FLOAT", float_tensor(DType::kF32, {kK}, mul)});
  }

  // Of weight and weight_scale; x is N(0,1) times at most 2.
  void make_static() {
    constexpr float kInputScale = 10.0f / 127;
    const std::vector<float> scale = floats_of(tensors[1].tensor);
    std::vector<float> deq;
    for (const float s : scale) deq.push_back(s * kInputScale);
    tensors = {{"0.linear.weight", "W8A8", tensors[0].tensor},
               {"0.linear.quant_bias", "W8A8", tensor_of(std::vector<int32_t>(kN, 0), {kN})},
               {"0.linear.input_scale", "W8A8", float_tensor(DType::kF32, {1}, {kInputScale})},
               {"0.linear.input_offset", "W8A8", float_tensor(DType::kF32, {1}, {0})},
               {"0.linear.deq_scale", "W8A8", float_tensor(DType::kF32, {kN}, deq)}};
  }

  // Against the float layer, on N(0,1).
  double error(const std::string& algorithm, const QuantizeOptions& options) const {
    TestFolder folder;
    OneLinear model(kN, kK, false);
    Linear exact = Linear::from_float("0", weight, {});
    quantize(model.map, write_layer(folder, algorithm, tensors), options, context());
    std::mt19937_64 random(29);
    const Tensor x = normal_tensor(DType::kF32, {16, kK}, random);
    return relative_error(outputs(model.linear, x), outputs(exact, x));
  }

  Tensor weight;
  LayerTensors tensors;
};

// What int8 and int4 may lose of a layer; without smoothing a third of the columns is off by a
// factor of 2.
double error_bound(std::string_view algorithm) { return algorithm == "W4A4_DYNAMIC" ? 0.4 : 0.05; }

TEST(Conformance, Case28_SmoothingUndoesTheScalesOfTheWeight) {
  for (const char* algorithm : {"W8A8", "W8A8_DYNAMIC", "W8A16", "W4A4_DYNAMIC"}) {
    const Smoothed layer(algorithm);
    const double error = layer.error(algorithm, {});
    EXPECT_LT(error, error_bound(algorithm)) << algorithm;
    EXPECT_GT(error, 0.001) << algorithm << ": too good to be quantized";
    Smoothed wrong(algorithm);
    wrong.tensors.back().tensor =
        float_tensor(DType::kF32, {Smoothed::kK}, std::vector<float>(Smoothed::kK, 1.0f));
    EXPECT_GT(wrong.error(algorithm, {}), error_bound(algorithm)) << algorithm;
  }
}

TEST(ConformanceUpstream, Case28_UpstreamSmoothsTwoOfFour) {
  for (const char* algorithm : {"W8A8", "W8A8_DYNAMIC"}) {
    EXPECT_LT(Smoothed(algorithm).error(algorithm, kUpstream), error_bound(algorithm));
  }
  for (const char* algorithm : {"W8A16", "W4A4_DYNAMIC"}) {
    EXPECT_GT(Smoothed(algorithm).error(algorithm, kUpstream), error_bound(algorithm));
  }
}

}  // namespace
}  // namespace mezzotint::conformance
