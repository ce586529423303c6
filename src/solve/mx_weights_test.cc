#include "solve/mx_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/weight_decode.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"
#include "solve/correlated_data.h"

namespace mezzotint {
namespace {

constexpr int64_t kN = 48;
constexpr int64_t kK = 1040;  // two whole 512s and a short one; the last block is short too

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

std::vector<float> decoded(const MxWeight& mx, Element element, int64_t n, int64_t k) {
  const WeightView view = {
      .codes = mx.codes.raw(),
      .element = element,
      .n = n,
      .k = k,
      .block_scale = mx.block_scale.data<uint8_t>(),
      .dual_scale = mx.dual_scale.empty() ? nullptr : mx.dual_scale.data<float>()};
  std::vector<float> out(static_cast<size_t>(n * k));
  for (int64_t row = 0; row < n; ++row) decode_weights(view, row, 0, k, out.data() + row * k);
  return out;
}

double squared_error(const float* w, const float* q, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += (double{w[i]} - q[i]) * (double{w[i]} - q[i]);
  return sum;
}

// The error of a block under a rule of the MX specification or of a tool.
double rule_error(const float* w, int64_t count, Element element, MxScaleRule rule) {
  std::array<uint8_t, kMxBlock> codes{};
  const uint8_t byte =
      mx_quantize_block(w, count, element, rule, Rounding::kHalfEven, codes.data());
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double miss = double{w[i]} - mx_value(codes[static_cast<size_t>(i)], byte, element);
    sum += miss * miss;
  }
  return sum;
}

TEST(MxWeights, AreNeverWorseThanAnyFixedRuleBlockByBlock) {
  const Tensor w = heavy_weights(kN, kK, 3);
  for (const Element element : {Element::kE2M1, Element::kE4M3}) {
    const std::vector<float> q =
        decoded(quantize_mx_weight(w, element, MxLevels::kOne, context()), element, kN, kK);
    int better = 0;
    for (int64_t row = 0; row < kN; ++row) {
      for (int64_t k = 0; k < kK; k += kMxBlock) {
        const int64_t count = std::min(kMxBlock, kK - k);
        const float* block = w.data<float>() + row * kK + k;
        const double ours = squared_error(block, q.data() + row * kK + k, count);
        for (const MxScaleRule rule :
             {MxScaleRule::kFloor, MxScaleRule::kRceil, MxScaleRule::kCeil, MxScaleRule::kEven}) {
          const double theirs = rule_error(block, count, element, rule);
          ASSERT_LE(ours, theirs) << row << " " << k;
          better += ours < theirs ? 1 : 0;
        }
      }
    }
    EXPECT_GT(better, 100);
  }
}

// The bar of the design.
TEST(MxWeights, TheSearchedDualScaleLeavesAtMost096OfThePlainRulesError) {
  const Tensor w = heavy_weights(kN, kK, 3);
  const auto error = [&](MxLevels levels) {
    const auto q =
        decoded(quantize_mx_weight(w, Element::kE2M1, levels, context()), Element::kE2M1, kN, kK);
    return std::sqrt(squared_error(w.data<float>(), q.data(), kN * kK));
  };
  const double plain = error(MxLevels::kDual), searched = error(MxLevels::kSearchedDual);
  EXPECT_LE(searched, 0.96 * plain);
  EXPECT_GE(searched, 0.85 * plain);
}

TEST(MxWeights, ZerosAndHugeValuesHaveScalesThatCanBeRead) {
  std::vector<float> values(1024, 0.0f);
  values[600] = 3e38f;
  const Tensor w = Tensor::copy_of<float>(values, {1, 1024});
  for (const MxLevels levels : {MxLevels::kDual, MxLevels::kSearchedDual}) {
    const MxWeight mx = quantize_mx_weight(w, Element::kE2M1, levels, context());
    EXPECT_EQ(mx.dual_scale.data<float>()[0], 0.0f);
    const std::vector<float> q = decoded(mx, Element::kE2M1, 1, 1024);
    EXPECT_NEAR(q[600] / 3e38f, 1.0, 0.02);
    EXPECT_EQ(q[0], 0.0f);
  }
}

TEST(MxWeights, AreTheSameForAnyNumberOfThreads) {
  const Tensor w = heavy_weights(kN, kK, 3);
  const auto run = [&](int threads) {
    return quantize_mx_weight(w, Element::kE2M1, MxLevels::kSearchedDual,
                              ExecContext({.threads = threads}));
  };
  const MxWeight one = run(1), four = run(4);
  EXPECT_TRUE(std::ranges::equal(one.codes.buffer().bytes(), four.codes.buffer().bytes()));
  EXPECT_TRUE(
      std::ranges::equal(one.dual_scale.buffer().bytes(), four.dual_scale.buffer().bytes()));
}

}  // namespace
}  // namespace mezzotint
