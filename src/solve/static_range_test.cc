#include "solve/static_range.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "numerics/bf16.h"
#include "numerics/int8.h"

namespace mezzotint {
namespace {

struct Sample {
  std::vector<float> values;
  std::vector<int64_t> hist = std::vector<int64_t>(2 * kHistogramBins, 0);

  explicit Sample(std::vector<float> v) : values(std::move(v)) {
    for (const float x : values) {
      ++hist[static_cast<size_t>(histogram_bin(x) + (std::signbit(x) ? kHistogramBins : 0))];
    }
  }
  ValueRange range() const {
    const auto [low, high] = std::ranges::minmax(values);
    return {.min = low, .max = high, .hist = hist};
  }
  // What the codes really cost.
  double error(const AffineParams& p) const {
    double sum = 0;
    for (const float x : values) {
      const double back = (int8_static_code(x, p.scale, p.offset) - double{p.offset}) * p.scale;
      sum += (x - back) * (x - back);
    }
    return sum / static_cast<double>(values.size());
  }
};

Sample normal_with_outliers(int outliers) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.3f, 1.0f);
  std::vector<float> values(100'000);
  std::ranges::generate(values, [&] { return normal(random); });
  for (int i = 0; i < outliers; ++i) values[static_cast<size_t>(i * 777)] = 60.0f;
  return Sample(std::move(values));
}

TEST(StaticRange, MinMaxHoldsEverythingThatWasSeen) {
  const Sample sample = normal_with_outliers(3);
  const AffineParams p = static_range(sample.range(), RangeRule::kMinMax);
  EXPECT_EQ(round_to_bf16(p.scale), p.scale);
  for (const float end : {sample.range().min, sample.range().max}) {
    const double back = (int8_static_code(end, p.scale, p.offset) - double{p.offset}) * p.scale;
    EXPECT_LE(std::abs(end - back), p.scale);  // half a step, and half of the offset's rounding
  }
  // A scale that is one bf16 smaller would clip.
  EXPECT_LE(p.scale, (sample.range().max - sample.range().min) / 255 * (1 + 0x1p-7f));
}

TEST(StaticRange, PercentileLeavesOutItsShare) {
  const Sample sample = normal_with_outliers(3);  // 3 of 100 000, less than half of 1e-4
  const AffineParams p = static_range(sample.range(), RangeRule::kPercentile);
  EXPECT_LT((127 - p.offset) * p.scale, 6.5f);
  EXPECT_GT((127 - p.offset) * p.scale, 3.5f);
  const Sample many = normal_with_outliers(50);
  EXPECT_GT((127 - static_range(many.range(), RangeRule::kPercentile).offset) *
                static_range(many.range(), RangeRule::kPercentile).scale,
            50.0f);
}

TEST(StaticRange, LeastErrorIsNotAboveAnyOtherRuleOnTheRealCodes) {
  for (const int outliers : {0, 1, 3, 30, 120}) {
    const Sample sample = normal_with_outliers(outliers);
    const AffineParams best = static_range(sample.range(), RangeRule::kMse);
    for (const RangeRule rule : {RangeRule::kMinMax, RangeRule::kPercentile}) {
      EXPECT_LE(sample.error(best), 1.02 * sample.error(static_range(sample.range(), rule)))
          << outliers;
    }
    EXPECT_NEAR(static_range_error(sample.range(), best) / sample.error(best), 1.0, 0.1);
  }
}

TEST(StaticRange, LeastErrorClipsFewOutliersAndKeepsMany) {
  const Sample few = normal_with_outliers(1);
  EXPECT_LT((127 - static_range(few.range(), RangeRule::kMse).offset) *
                static_range(few.range(), RangeRule::kMse).scale,
            59.0f);
  const Sample many = normal_with_outliers(120);
  EXPECT_GT((127 - static_range(many.range(), RangeRule::kMse).offset) *
                static_range(many.range(), RangeRule::kMse).scale,
            40.0f);
}

TEST(StaticRange, OneSidedRangesStartAtZero) {
  const AffineParams p = static_range({.min = 1.0f, .max = 3.0f}, RangeRule::kMse);
  EXPECT_EQ(p.offset, -128.0f);
  const AffineParams n = static_range({.min = -3.0f, .max = -1.0f}, RangeRule::kMse);
  EXPECT_EQ(n.offset, 127.0f);
}

TEST(StaticRange, AnInputOfZerosHasTheSmallestScale) {
  const Sample zeros(std::vector<float>(100, 0.0f));
  for (const RangeRule rule : {RangeRule::kMse, RangeRule::kMinMax, RangeRule::kPercentile}) {
    const AffineParams p = static_range(zeros.range(), rule);
    EXPECT_EQ(p.scale, kAffineMinScale);
    EXPECT_EQ(int8_static_code(0.0f, p.scale, p.offset), p.offset);
  }
}

}  // namespace
}  // namespace mezzotint
