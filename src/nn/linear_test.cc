#include "mezzotint/linear.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <thread>

#include "nn/linear_input.h"
#include "nn/linear_oracle.h"
#include "nn/linear_state.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

ConstMatrix view(const Tensor& x) { return {x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)}; }

Matrix mutable_view(const Tensor& y) {
  return {y.buffer().mutable_data(), y.dtype(), y.dim(0), y.dim(1), y.dim(1)};
}

LayerFile file_of(const LayerTensors& tensors, const std::string& layer) {
  const bool smoothed = linear_oracle::find(tensors, "div.mul_scale") != nullptr;
  return {.layer = layer,
          .prefix = smoothed ? layer + ".linear" : layer,
          .file = "memory",
          .tensor = [tensors](const std::string& name) -> std::optional<Tensor> {
            for (const NamedTensor& t : tensors) {
              if (t.name == name) return t.tensor;
            }
            return std::nullopt;
          }};
}

Linear linear_of(const std::string& algorithm, const LayerTensors& tensors,
                 Isa isa = active_isa()) {
  const LinearParams params = read_layer_params(*find_algorithm(algorithm), file_of(tensors, "l"));
  return Linear("l", params.plan.n, params.plan.k, make_linear_state(params, isa));
}

Tensor run(const Linear& linear, const Tensor& x, const ExecContext& ctx = context()) {
  Tensor y = Tensor::allocate(x.dtype(), {x.dim(0), linear.out_features()});
  linear.run(view(x), mutable_view(y), ctx);
  return y;
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_into(t, values);
  return values;
}

// --- values
// ---------------------------------------------------------------------------------------

class RandomFiles : public testing::TestWithParam<const char*> {};

TEST_P(RandomFiles, GiveTheFormulaOfTheFormatOnEveryIsa) {
  std::mt19937_64 random(1);
  const std::string algorithm = GetParam();
  int cases = 0;
  for (const LayerDims dims : {LayerDims{1, 32}, {7, 33}, {33, 100}, {65, 129}, {40, 515}}) {
    for (const bool bias : {false, true}) {
      for (const bool smoothing : {false, true}) {
        const LayerTensors layer =
            make_random_layer(*find_algorithm(algorithm), "l",
                              {.dims = dims, .bias = bias, .smoothing = smoothing}, random);
        for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
          for (const int64_t m : {1, 5, 37}) {
            const Tensor x = normal_tensor(dtype, {m, dims.k}, random);
            const OracleResult expected = oracle_linear(algorithm, layer, floats(x), m, dtype);
            for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
              const Linear linear = linear_of(algorithm, layer, static_cast<Isa>(isa));
              EXPECT_EQ(misses(expected, run(linear, x)), 0)
                  << to_string({m, dims.n, dims.k}) << " " << dtype_name(dtype) << " bias " << bias
                  << " smoothing " << smoothing << " " << linear.kernel(m);
              ++cases;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(cases, 5 * 2 * 2 * 3 * 3 * (static_cast<int>(active_isa()) + 1));
}

// The bounds have teeth: one changed code, scale, bias or factor is seen.
TEST_P(RandomFiles, OneWrongValueBreaksTheBound) {
  std::mt19937_64 random(2);
  const std::string algorithm = GetParam();
  const LayerTensors layer = make_random_layer(
      *find_algorithm(algorithm), "l", {.dims = {9, 65}, .bias = true, .smoothing = true}, random);
  const Tensor x = normal_tensor(DType::kF32, {3, 65}, random);
  const Tensor y = run(linear_of(algorithm, layer), x);
  ASSERT_EQ(misses(oracle_linear(algorithm, layer, floats(x), 3, DType::kF32), y), 0);
  for (const char* suffix : {"weight", "weight_scale", "bias", "div.mul_scale"}) {
    LayerTensors wrong = layer;
    for (NamedTensor& t : wrong) {
      if (!t.name.ends_with("." + std::string(suffix))) continue;
      if (t.tensor.dtype() == DType::kI8) {
        Tensor codes = Tensor::allocate(DType::kI8, t.tensor.shape());
        std::copy_n(t.tensor.data<int8_t>(), t.tensor.size(), codes.mutable_data<int8_t>());
        codes.mutable_data<int8_t>()[5] ^= 1;
        t.tensor = codes;
      } else {
        std::vector<float> values = floats(t.tensor);
        values[values.size() > 3 ? 3 : 0] *= 1.5f;
        t.tensor = float_tensor(DType::kF32, t.tensor.shape(), values);
      }
    }
    EXPECT_GT(misses(oracle_linear(algorithm, wrong, floats(x), 3, DType::kF32), y), 0) << suffix;
  }
}

INSTANTIATE_TEST_SUITE_P(Linear, RandomFiles, testing::Values("W8A16", "W8A8_DYNAMIC"));

class EveryAlgorithm : public testing::TestWithParam<const AlgorithmRow*> {};

LayerDims dims_for(const AlgorithmRow& row, int64_t n, int64_t k) {
  return {.n = n,
          .k = k,
          .groups = has_groups(row) ? 2 : 0,
          .steps = 3,
          .rank = row.parameters.low_rank ? 2 : 0};
}

TEST_P(EveryAlgorithm, GiveTheSameBitsForAnyNumberOfThreads) {
  std::mt19937_64 random(3);
  const LayerTensors layer =
      make_random_layer(*GetParam(), "l", {.dims = dims_for(*GetParam(), 130, 258)}, random);
  const Linear linear = linear_of(std::string(GetParam()->name), layer);
  const Tensor x = normal_tensor(DType::kBF16, {67, 258}, random);
  const Tensor one = run(linear, x, ExecContext({.threads = 1}));
  for (const int threads : {2, 3}) {
    EXPECT_TRUE(same_bytes(run(linear, x, ExecContext({.threads = threads})), one)) << threads;
  }
}

TEST_P(EveryAlgorithm, RunFromFourThreadsAtOnce) {
  std::mt19937_64 random(4);
  const LayerTensors layer = make_random_layer(
      *GetParam(), "l", {.dims = dims_for(*GetParam(), 65, 128), .smoothing = true}, random);
  const Linear linear = linear_of(std::string(GetParam()->name), layer);
  const Tensor x = normal_tensor(DType::kF32, {19, 128}, random);
  const Tensor expected = run(linear, x);
  std::vector<int> equal(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) equal[t] += same_bytes(run(linear, x), expected) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 8));
}

std::vector<const AlgorithmRow*> served_rows() {
  std::vector<const AlgorithmRow*> rows;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract != nullptr) rows.push_back(&row);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Linear, EveryAlgorithm, testing::ValuesIn(served_rows()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Linear, DynamicForwardGivesTheWorkedNumbers) {
  const LayerTensors layer = {
      {"l.weight", "W8A8_DYNAMIC",
       Tensor::copy_of<int8_t>(std::vector<int8_t>{10, 20, -30, 40, -127, 0, 127, 1}, {2, 4})},
      {"l.weight_scale", "W8A8_DYNAMIC", float_tensor(DType::kF32, {2, 1}, {0.02f, 0.01f})}};
  const Tensor x = float_tensor(DType::kF32, {1, 4}, {1, -3, 0.5f, 4});
  const Tensor y = run(linear_of("W8A8_DYNAMIC", layer), x);
  EXPECT_NEAR(y.data<float>()[0], 1.9023622, 1e-6);  // (32,-95,16,127): acc 3020
  EXPECT_NEAR(y.data<float>()[1], -0.6, 1e-6);       // acc -1905
}

TEST(Linear, AnAllZeroRowGivesTheBias) {
  const LayerTensors layer = {
      {"l.weight", "", Tensor::copy_of<int8_t>(std::vector<int8_t>(64, 5), {2, 32})},
      {"l.weight_scale", "", float_tensor(DType::kF32, {2, 1}, {0.5f, 2.0f})},
      {"l.bias", "", float_tensor(DType::kF32, {2}, {-1.25f, 3.0f})}};
  const Tensor x = float_tensor(DType::kF32, {1, 32}, std::vector<float>(32, 0.0f));
  for (const char* algorithm : {"W8A16", "W8A8_DYNAMIC"}) {
    const Tensor y = run(linear_of(algorithm, layer), x);
    EXPECT_EQ(floats(y), (std::vector<float>{-1.25f, 3.0f})) << algorithm;
  }
}

TEST(Linear, ANanInOneRowStaysInThatRow) {
  std::mt19937_64 random(5);
  const LayerTensors layer =
      make_random_layer(*find_algorithm("W8A8_DYNAMIC"), "l", {.dims = {3, 32}}, random);
  std::vector<float> values(64, 1.0f);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  const Tensor y =
      run(linear_of("W8A8_DYNAMIC", layer), float_tensor(DType::kF32, {2, 32}, values));
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::isnan(y.data<float>()[i]));
    EXPECT_FALSE(std::isnan(y.data<float>()[3 + i]));
  }
}

TEST(Linear, FloatWeightsOfEveryTypeGiveTheProduct) {
  std::mt19937_64 random(6);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor w = normal_tensor(dtype, {5, 40}, random);
    const Tensor b = normal_tensor(dtype, {5}, random);
    const Tensor x = normal_tensor(DType::kF32, {3, 40}, random);
    const Linear linear = Linear::from_float("l", w, b);
    const Tensor y = run(linear, x);
    EXPECT_EQ(linear.algorithm(), "FLOAT");
    EXPECT_TRUE(linear.has_bias());
    const std::vector<float> wf = floats(w), bf = floats(b), xf = floats(x);
    for (size_t i = 0; i < 3; ++i) {
      for (size_t o = 0; o < 5; ++o) {
        double sum = bf[o];
        double magnitude = std::abs(sum);
        for (size_t k = 0; k < 40; ++k) {
          sum += static_cast<double>(xf[i * 40 + k]) * wf[o * 40 + k];
          magnitude += std::abs(static_cast<double>(xf[i * 40 + k]) * wf[o * 40 + k]);
        }
        EXPECT_NEAR(y.data<float>()[i * 5 + o], sum, 44 * 0x1p-24 * magnitude);
      }
    }
  }
}

TEST(Linear, StridedRowsGiveTheSameBits) {
  std::mt19937_64 random(7);
  const LayerTensors layer =
      make_random_layer(*find_algorithm("W8A8_DYNAMIC"), "l", {.dims = {6, 40}}, random);
  const Linear linear = linear_of("W8A8_DYNAMIC", layer);
  const Tensor wide = normal_tensor(DType::kF32, {4, 50}, random);
  std::vector<float> packed;
  for (int64_t i = 0; i < 4; ++i) {
    packed.insert(packed.end(), wide.data<float>() + i * 50, wide.data<float>() + i * 50 + 40);
  }
  const Tensor expected = run(linear, float_tensor(DType::kF32, {4, 40}, packed));
  std::vector<float> y(4 * 9, -1.0f);
  linear.run({wide.raw(), DType::kF32, 4, 40, 50}, {y.data(), DType::kF32, 4, 6, 9}, context());
  for (size_t i = 0; i < 4; ++i) {
    for (size_t o = 0; o < 9; ++o) {
      EXPECT_EQ(y[i * 9 + o], o < 6 ? expected.data<float>()[i * 6 + o] : -1.0f);
    }
  }
}

// --- calls that are refused ----------------------------------------------------------------------

Linear small_linear() {
  std::mt19937_64 random(8);
  return Linear::from_float("blocks.3.proj", normal_tensor(DType::kF32, {4, 8}, random), {});
}

void expect_refused(const ConstMatrix& x, const Matrix& y, const std::string& text) {
  const Error error = error_of([&] { small_linear().run(x, y, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("layer blocks.3.proj"), std::string::npos);
}

TEST(Linear, WrongCallsAreRefusedBeforeAnythingIsWritten) {
  std::vector<float> x(16, 1.0f);
  std::vector<float> y(8, -7.0f);
  const ConstMatrix good_x = {x.data(), DType::kF32, 2, 8, 8};
  const Matrix good_y = {y.data(), DType::kF32, 2, 4, 4};
  expect_refused({x.data(), DType::kF32, 2, 7, 8}, good_y,
                 "x has the wrong number of columns: expected 8, got 7");
  expect_refused({x.data(), DType::kI32, 2, 8, 8}, good_y,
                 "x has the wrong dtype: expected F32, BF16 or F16, got I32");
  expect_refused({x.data(), DType::kF32, 2, 8, 5}, good_y,
                 "rows of x overlap: expected row_stride >= 8, got 5");
  expect_refused({nullptr, DType::kF32, 2, 8, 8}, good_y, "x has no data");
  expect_refused({x.data(), DType::kF32, -1, 8, 8}, good_y, "negative number of rows");
  expect_refused(good_x, {y.data(), DType::kF32, 1, 4, 4},
                 "y has the wrong number of rows: expected 2, got 1");
  expect_refused(good_x, {y.data(), DType::kBF16, 2, 4, 4},
                 "y has the wrong dtype: expected F32 like x, got BF16");
  expect_refused(good_x, {y.data(), DType::kF32, 2, 5, 5},
                 "y has the wrong number of columns: expected 4, got 5");
  EXPECT_EQ(y, std::vector<float>(8, -7.0f));
}

TEST(Linear, NoRowsAreFine) {
  small_linear().run({nullptr, DType::kF32, 0, 8, 8}, {nullptr, DType::kF32, 0, 4, 4}, context());
}

TEST(Linear, AnEmptyOneSaysSo) {
  const Linear empty("x", 4, 8, nullptr);
  const Error error = error_of([&] { empty.run({}, {}, context()); });
  EXPECT_NE(std::string(error.what()).find("the linear holds no weight"), std::string::npos);
}

TEST(Linear, AStateOfAnotherShapeIsRefused) {
  Linear linear = small_linear();
  std::mt19937_64 random(9);
  const Linear other = Linear::from_float("o", normal_tensor(DType::kF32, {4, 9}, random), {});
  const Error error = error_of([&] { linear.set_state(other.state()); });
  EXPECT_NE(std::string(error.what()).find("expected [4,8], got [4,9]"), std::string::npos);
}

TEST(Linear, FloatWeightsThatDoNotFitAreRefused) {
  std::mt19937_64 random(10);
  const Tensor w = normal_tensor(DType::kF32, {4, 8}, random);
  EXPECT_EQ(error_of([&] { Linear::from_float("l", w.reshaped({32}), {}); }).code(),
            ErrorCode::kInput);
  EXPECT_EQ(error_of([&] { Linear::from_float("l", w, w); }).code(), ErrorCode::kInput);
  const Tensor wide = normal_tensor(DType::kF64, {4, 8}, random);
  EXPECT_EQ(error_of([&] { Linear::from_float("l", wide, {}); }).code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace mezzotint
