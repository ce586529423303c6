// What quantization costs: the relative error of a layer on normal data lies where the format says,
// neither above nor below. Below, it was not quantized.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "nn/linear_state.h"
#include "quant/file_fixture.h"
#include "solve/rtn.h"

namespace mezzotint {
namespace {

constexpr int64_t kRows = 256;  // m and n
constexpr int64_t kK = 3072;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

struct Data {
  Tensor x;
  Tensor w;
  std::vector<float> y;  // of the float layer
};

std::vector<float> run(const Linear& linear, const Tensor& x) {
  std::vector<float> y(static_cast<size_t>(x.dim(0) * linear.out_features()));
  linear.run({x.raw(), DType::kF32, x.dim(0), x.dim(1), x.dim(1)},
             {y.data(), DType::kF32, x.dim(0), linear.out_features(), linear.out_features()},
             context());
  return y;
}

const Data& normal_data() {
  static const Data data = [] {
    std::mt19937_64 random(2026);
    Data d{normal_tensor(DType::kF32, {kRows, kK}, random),
           normal_tensor(DType::kF32, {kRows, kK}, random),
           {}};
    d.y = run(Linear::from_float("l", d.w, {}), d.x);
    return d;
  }();
  return data;
}

LayerFile file_of(const LayerTensors& tensors) {
  return {.layer = "l",
          .prefix = "l",
          .file = "memory",
          .tensor = [tensors](const std::string& name) -> std::optional<Tensor> {
            const auto it = std::ranges::find(tensors, name, &NamedTensor::name);
            return it == tensors.end() ? std::nullopt : std::optional<Tensor>(it->tensor);
          },
          .dims = {.n = kRows, .k = kK}};
}

double relative_error(const std::string& algorithm, const LayerTensors& tensors) {
  const LinearParams params = read_layer_params(*find_algorithm(algorithm), file_of(tensors));
  const Linear linear("l", kRows, kK, make_linear_state(params, active_isa()));
  const std::vector<float> y = run(linear, normal_data().x);
  double noise = 0, signal = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double exact = normal_data().y[i];
    noise += (y[i] - exact) * (y[i] - exact);
    signal += exact * exact;
  }
  return std::sqrt(noise / signal);
}

LayerTensors written(const std::string& algorithm, const WriteOptions& options) {
  return write_layer_params(*find_algorithm(algorithm),
                            {.name = "l", .weight = normal_data().w, .bias = {}}, options,
                            context());
}

struct Expectation {
  const char* algorithm;
  double error;
  WriteOptions options{};
};

class LayerError : public testing::TestWithParam<Expectation> {};

TEST_P(LayerError, LiesWhereTheFormatSays) {
  const auto& [algorithm, expected, options] = GetParam();
  const double error = relative_error(algorithm, written(algorithm, options));
  EXPECT_GT(error, 0.88 * expected) << algorithm;
  EXPECT_LT(error, 1.12 * expected) << algorithm;
}

INSTANTIATE_TEST_SUITE_P(
    Normal, LayerError,
    testing::Values(Expectation{"W8A16", 0.009}, Expectation{"W8A8_DYNAMIC", 0.012},
                    Expectation{"W4A16", 0.15, {.group_size = kK}}, Expectation{"W4A16", 0.108},
                    Expectation{"W4A4_DYNAMIC", 0.22}, Expectation{"W8A8_MXFP8", 0.042},
                    Expectation{"W4A4_MXFP4", 0.16}, Expectation{"W4A4_MXFP4_DUALSCALE", 0.16}),
    [](const auto& info) {
      const bool per_channel = info.param.options.group_size == kK;
      return info.param.algorithm + std::string(per_channel ? "_per_channel" : "");
    });

// Static files need the range of x: here it is known.
LayerTensors static_layer() {
  const Data& data = normal_data();
  const float* x = data.x.data<float>();
  const auto [low, high] = std::minmax_element(x, x + data.x.size());
  const float scale = (*high - *low) / 255.0f;
  const float offset = std::nearbyint(-*low / scale) - 128.0f;
  const IntegerWeight w = round_to_nearest(data.w, Element::kInt8, {}, context());
  std::vector<float> deq(kRows);
  std::vector<int32_t> bias(kRows);
  for (int64_t n = 0; n < kRows; ++n) {
    deq[static_cast<size_t>(n)] = scale * w.scale.data<float>()[n];
    int64_t sum = 0;
    for (int64_t k = 0; k < kK; ++k) sum += w.codes.data<int8_t>()[n * kK + k];
    bias[static_cast<size_t>(n)] = static_cast<int32_t>(-static_cast<int64_t>(offset) * sum);
  }
  return {{"l.weight", "W8A8", w.codes},
          {"l.input_scale", "W8A8", float_tensor(DType::kF32, {1}, {scale})},
          {"l.input_offset", "W8A8", float_tensor(DType::kF32, {1}, {offset})},
          {"l.deq_scale", "W8A8", float_tensor(DType::kF32, {kRows}, deq)},
          {"l.quant_bias", "W8A8", Tensor::copy_of<int32_t>(bias, {kRows})}};
}

TEST(LayerErrorStatic, LiesWhereTheFormatSays) {
  const double error = relative_error("W8A8", static_layer());
  EXPECT_GT(error, 0.88 * 0.014);
  EXPECT_LT(error, 1.12 * 0.014);
}

}  // namespace
}  // namespace mezzotint
