#include "quant/write_layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "quant/algorithm.h"
#include "quant/effective_weight.h"
#include "quant/file_fixture.h"
#include "quant/written_layer.h"
#include "solve/low_rank.h"
#include "solve/panelled_matrix.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kN = 40;
constexpr int64_t kK = 1024;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

bool is_written_from_weights(const AlgorithmRow& row) {
  return row.status == AlgorithmStatus::kServed && row.contract != nullptr &&
         !row.parameters.needs_statistics;
}

// The matrix that the file of a layer stands for.
std::vector<float> effective(const AlgorithmRow& row, const Tensor& w,
                             const WriteOptions& options) {
  const LayerTensors tensors =
      write_layer_params(row, {.name = "a", .weight = w, .bias = {}}, options, context());
  SelectedLayer layer;
  layer.name = "a";
  layer.n = w.dim(0);
  layer.k = w.dim(1);
  const LinearParams params = read_layer_params(row, written_file(layer, Smoothed::kNo, tensors));
  std::vector<float> rows(static_cast<size_t>(w.size()));
  EffectiveWeight(params).rows(0, rows);
  return rows;
}

float amax_of(std::span<const float> values) {
  float most = 0;
  for (const float v : values) most = std::max(most, std::isfinite(v) ? std::abs(v) : INFINITY);
  return most;
}

// A row, a dual block and an MX block of zeros.
TEST(WriteLayer, ZerosStayZerosInEveryFile) {
  std::mt19937_64 random(3);
  const Tensor w = widened(normal_tensor(DType::kBF16, {kN, kK}, random));
  auto* values = w.mutable_data<float>();
  const auto clear = [&](int64_t row, int64_t first, int64_t count) {
    std::fill_n(values + row * kK + first, count, 0.0f);
  };
  clear(2, 0, kK);
  clear(3, 512, 512);
  clear(4, 32, 32);
  int files = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!is_written_from_weights(row)) continue;
    // What the branch adds there is taken away by rounded codes: near zero is all that can be.
    const float most = row.parameters.low_rank ? 0.3f : 0.0f;
    const std::vector<float> e = effective(row, w, {});
    const auto part = [&](size_t n, size_t first, size_t count) {
      return amax_of(std::span(e).subspan(n * kK + first, count));
    };
    EXPECT_LE(part(2, 0, kK), most) << row.name;
    EXPECT_LE(part(3, 512, 512), most) << row.name;
    EXPECT_LE(part(4, 32, 32), most) << row.name;
    EXPECT_GT(part(4, 64, 32), 0.5f) << row.name;
    ++files;
  }
  EXPECT_GE(files, 10);
}

// A few rows of the residual are in memory at once; the codes are those of all of it.
TEST(WriteLayer, CodesBesideABranchAreThoseOfTheResidual) {
  constexpr int64_t kRows = 2 * kResidualRows + 17, kColumns = 320, kRank = 4;
  std::mt19937_64 random(7);
  const Tensor w = normal_tensor(DType::kBF16, {kRows, kColumns}, random);
  const LowRankSplit split = split_low_rank(w, kRank, context());
  std::vector<float> branch(static_cast<size_t>(w.size()), 0.0f);
  const Tensor up = widened(split.up);
  PanelledMatrix(split.down)
      .add_product(up.data<float>(),
                   {.rows = kRows, .columns = kColumns, .data = branch.data(), .stride = kColumns});
  int checked = 0;
  for (const char* name : {"w4a4_mxfp4_svd", "w8a8_mxfp8_svd", "w4a4_mxfp4_dualscale_svd",
                           "w8a8_svd_dynamic", "w4a16_svd", "w8a16_svd"}) {
    const AlgorithmRow& row = served_algorithm(name);
    const WriteOptions options = {.rank = kRank};
    const Tensor codes = rounded_weight(row, split.residual, options, context());
    const std::vector<float> e = effective(row, w, options);
    for (int64_t i = 0; i < w.size(); ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_EQ(e[at], codes.data<float>()[i] + branch[at]) << name << " " << i;
    }
    ++checked;
  }
  EXPECT_EQ(checked, 6);
}

TEST(WriteLayer, AWeightOfZerosIsWrittenByEveryAlgorithm) {
  const Tensor w = Tensor::copy_of<float>(std::vector<float>(kN * kK, 0.0f), {kN, kK});
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!is_written_from_weights(row)) continue;
    EXPECT_EQ(amax_of(effective(row, w, {})), 0) << row.name;
  }
}

TEST(WriteLayer, GroupsOfZerosStayZeros) {
  std::mt19937_64 random(4);
  const Tensor w = widened(normal_tensor(DType::kBF16, {kN, kK}, random));
  std::fill_n(w.mutable_data<float>() + 64, 64, 0.0f);
  int grouped = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!is_written_from_weights(row) || !has_groups(row)) continue;
    const std::vector<float> e = effective(row, w, {.group_size = 64});
    EXPECT_EQ(amax_of(std::span(e).subspan(64, 64)), 0) << row.name;
    EXPECT_GT(amax_of(std::span(e).subspan(128, 64)), 0.5f) << row.name;
    ++grouped;
  }
  EXPECT_GE(grouped, 1);
}

}  // namespace
}  // namespace mezzotint
