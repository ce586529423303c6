#include "quant/weight_errors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "quant/algorithm.h"
#include "quant/file_fixture.h"
#include "quant/written_layer.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

LinearParams int8_rows() {
  LinearParams p;
  p.plan = {.n = 2,
            .k = 3,
            .activation = {},
            .weight = {.element = Element::kInt8, .granularity = Granularity::kPerChannel}};
  p.codes = Tensor::copy_of<int8_t>(std::vector<int8_t>{1, -2, 3, 127, 0, -127}, {2, 3});
  p.weight_scale = float_tensor(DType::kF32, {2}, {0.5f, 2.0f});
  return p;
}

TEST(WeightErrors, CountSignalAgainstError) {
  // w differs from E by 0.1 and by 1.
  const Tensor w = float_tensor(DType::kF32, {2, 3}, {0.6f, -1, 1.5f, 254, 1, -254});
  const double signal = 0.36 + 1 + 2.25 + 2 * 254.0 * 254.0 + 1;
  const double decoded = 0.25 + 1 + 2.25 + 2 * 254.0 * 254.0;
  const WeightErrors errors = weight_errors(w, int8_rows(), context());
  EXPECT_NEAR(errors.sqnr_db, 10 * std::log10(signal / 1.01), 1e-5);
  EXPECT_NEAR(errors.cosine, (signal + decoded - 1.01) / 2 / std::sqrt(signal * decoded), 1e-9);
  EXPECT_NEAR(errors.outlier_ratio, 254 / std::sqrt(signal / 6), 1e-5);
  EXPECT_EQ(errors.zero_share, 1.0 / 6);
  EXPECT_EQ(errors.clip_share, 0);
}

TEST(WeightErrors, OfAnExactWeightAreNone) {
  const Tensor same = float_tensor(DType::kF32, {2, 3}, {0.5f, -1, 1.5f, 254, 0, -254});
  const WeightErrors errors = weight_errors(same, int8_rows(), context());
  EXPECT_EQ(errors.sqnr_db, kExactSqnrDb);
  EXPECT_EQ(errors.cosine, 1);
}

TEST(WeightErrors, CountWhatLiesBeyondTheGrid) {
  // The second row's grid ends at 127.5 * 2 = 255 and -257, with half a step.
  const Tensor w = float_tensor(DType::kF32, {2, 3}, {0.5f, 63, 64, 254.9f, 256, -257.5f});
  EXPECT_EQ(weight_errors(w, int8_rows(), context()).clip_share, 3.0 / 6);
}

TEST(WeightErrors, ClipWhatSmoothingLeaves) {
  LinearParams p = int8_rows();
  p.plan.prologue = Prologue::kSmooth;
  p.mul_scale = float_tensor(DType::kF32, {3}, {1, 1, 0.5f});
  // 40 / 0.5 is beyond 63.75, 40 alone is not.
  const Tensor w = float_tensor(DType::kF32, {2, 3}, {40, 40, 40, 0, 0, 0});
  EXPECT_EQ(weight_errors(w, p, context()).clip_share, 1.0 / 6);
}

// Every algorithm that is written from weights alone: numbers in their ranges, no thread's order.
TEST(WeightErrors, OfEveryAlgorithm) {
  std::mt19937_64 random(3);
  const FloatLayer layer = {
      .name = "a", .weight = normal_tensor(DType::kBF16, {32, 512}, random), .bias = {}};
  int seen = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status != AlgorithmStatus::kServed || row.contract == nullptr ||
        row.parameters.needs_statistics) {
      continue;
    }
    const LayerTensors tensors = write_layer_params(row, layer, {}, context());
    SelectedLayer selected;
    selected.name = layer.name;
    selected.n = 32;
    selected.k = 512;
    const LinearParams params =
        read_layer_params(row, written_file(selected, Smoothed::kNo, tensors));
    const WeightErrors errors = weight_errors(layer.weight, params, context());
    EXPECT_GT(errors.sqnr_db, 10) << row.name;
    EXPECT_GT(errors.cosine, 0.95) << row.name;
    EXPECT_LT(errors.zero_share, 0.3) << row.name;
    EXPECT_LT(errors.clip_share, 0.02) << row.name;
    EXPECT_NEAR(errors.outlier_ratio, 4, 1) << row.name;
    const WeightErrors alone = weight_errors(layer.weight, params, ExecContext({.threads = 1}));
    EXPECT_EQ(errors.sqnr_db, alone.sqnr_db) << row.name;
    ++seen;
  }
  EXPECT_GE(seen, 10);
}

}  // namespace
}  // namespace mezzotint
