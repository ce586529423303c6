#include "quant/effective_weight.h"

#include <gtest/gtest.h>

#include <vector>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

LinearParams params(bool smoothed) {
  LinearParams p;
  p.plan = {.n = 2,
            .k = 3,
            .prologue = smoothed ? Prologue::kSmooth : Prologue::kNone,
            .activation = {},
            .weight = {.element = Element::kInt8, .granularity = Granularity::kPerChannel}};
  p.codes = Tensor::copy_of<int8_t>(std::vector<int8_t>{1, -2, 3, 127, 0, -127}, {2, 3});
  p.weight_scale = float_tensor(DType::kF32, {2}, {0.5f, 2.0f});
  if (smoothed) p.mul_scale = float_tensor(DType::kF32, {3}, {1, 10, 0.25f});
  return p;
}

std::vector<float> row(const LinearParams& p, int64_t i) {
  std::vector<float> values(3);
  EffectiveWeight(p).rows(i, values);
  return values;
}

TEST(EffectiveWeight, IsCodeTimesScaleTimesSmoothing) {
  EXPECT_EQ(row(params(false), 0), (std::vector<float>{0.5f, -1, 1.5f}));
  EXPECT_EQ(row(params(false), 1), (std::vector<float>{254, 0, -254}));
  EXPECT_EQ(row(params(true), 0), (std::vector<float>{0.5f, -10, 0.375f}));
}

TEST(EffectiveWeight, OfABranchThatReadsTheGivenInputIsNotSmoothed) {
  LinearParams p = params(true);
  p.plan.rank = 1;
  p.low_rank_down = float_tensor(DType::kF32, {1, 3}, {1, 2, 4});
  p.low_rank_up = float_tensor(DType::kF32, {2, 1}, {0.5f, 3});
  EXPECT_EQ(row(p, 0), (std::vector<float>{1, 0, 0.875f}));  // (0.5 + 0.5, -1 + 1, 1.5 + 2) * mul
  p.plan.branch_input = BranchInput::kGiven;
  EXPECT_EQ(row(p, 0), (std::vector<float>{1, -9, 2.375f}));  // 0.5 + 0.5, -10 + 1, 0.375 + 2
}

TEST(EffectiveWeight, HasTheRowsOfItsParts) {
  LinearParams p = params(false);
  p.plan.rank = 2;
  p.low_rank_down = float_tensor(DType::kBF16, {2, 3}, {1, 2, 4, -1, 0, 8});
  p.low_rank_up = float_tensor(DType::kBF16, {2, 2}, {0.5f, 1, 3, -2});
  const EffectiveWeight effective(p);
  std::vector<float> branch(6), all(6);
  effective.branch(0, branch);
  effective.rows(0, all);
  EXPECT_EQ(branch, (std::vector<float>{-0.5f, 1, 10, 5, 6, -4}));
  EXPECT_EQ(all, (std::vector<float>{0, 0, 11.5f, 259, 6, -258}));
  EXPECT_EQ(row(p, 1), (std::vector<float>{259, 6, -258}));
}

}  // namespace
}  // namespace mezzotint
