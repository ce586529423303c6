#include "numerics/dual_level.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "numerics/bf16.h"
#include "numerics/mx.h"

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(DualScale, IsOneMultiplicationAndTheWeightScaleADivision) {
  int differ = 0;
  for (uint32_t bits = 0x0400; bits < 0x7f80; ++bits) {
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    ASSERT_EQ(dual_scale(amax), amax * float{1.0f / 6.0f}) << amax;
    ASSERT_EQ(dual_weight_scale(amax), amax / 6.0f) << amax;
    ASSERT_NEAR(dual_scale(amax), double{amax} / 6, double{amax} / 6 * 0x1p-23) << amax;
    if (dual_scale(amax) != dual_weight_scale(amax)) ++differ;
  }
  EXPECT_GT(differ, 0);
}

TEST(DualScale, TinyBlocksHaveNoScaleAndBadOnesNaN) {
  EXPECT_EQ(dual_scale(0.0f), 0.0f);
  EXPECT_EQ(dual_scale(5.9f * 0x1p-126f), 0.0f);
  EXPECT_EQ(dual_scale(6.0f * 0x1p-126f), 0x1p-126f);
  EXPECT_EQ(dual_weight_scale(5.9f * 0x1p-126f), 0.0f);
  EXPECT_EQ(dual_weight_scale(0.0f), 0.0f);
  for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    EXPECT_TRUE(std::isnan(dual_scale(bad)));
    EXPECT_TRUE(std::isnan(dual_weight_scale(bad)));
    EXPECT_EQ(dual_magnitude(bad), 0.0f);
  }
  EXPECT_EQ(dual_magnitude(-2.0f), 2.0f);
}

// Level 1 behind level 0, as in a row of 512: all 8 gives 8/6, bytes 127 and codes of 6.
TEST(DualLevel, WorkedRowOfEights) {
  const float scale = dual_scale(8.0f);
  EXPECT_EQ(scale, 1.3333334f);
  std::array<float, kMxBlock> t;
  t.fill(dual_inner(8.0f, scale));
  std::array<uint8_t, kMxBlock> codes = {};
  EXPECT_EQ(mx_quantize_block(t.data(), kMxBlock, Element::kE2M1, MxScaleRule::kFloor,
                              Rounding::kHalfEven, codes.data()),
            127);
  for (const uint8_t code : codes) EXPECT_EQ(code, 0x7);
}

// The exporter's row: 512 zeros but w[0] = 12, w[1] = -6, w[32] = 1.
TEST(DualLevel, WorkedRowOfTheExporter) {
  std::vector<float> w(kDualBlock, 0.0f);
  w[0] = 12.0f, w[1] = -6.0f, w[32] = 1.0f;
  const float scale = dual_weight_scale(12.0f);
  EXPECT_EQ(scale, 2.0f);
  std::vector<uint8_t> codes(kDualBlock);
  std::vector<uint8_t> bytes;
  std::vector<float> t(kDualBlock);
  for (size_t i = 0; i < w.size(); ++i) t[i] = dual_inner(w[i], scale);
  for (size_t i = 0; i < w.size(); i += kMxBlock) {
    bytes.push_back(mx_quantize_block(t.data() + i, kMxBlock, Element::kE2M1,
                                      MxScaleRule::kUpstreamFp4, Rounding::kHalfAway,
                                      codes.data() + i));
  }
  std::vector<uint8_t> expected(16, 105);
  expected[0] = 127, expected[1] = 124;
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(codes[0], 0x7);
  EXPECT_EQ(codes[1], 0xd);
  EXPECT_EQ(codes[32], 0x6);
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(mx_value(codes[i], bytes[i / kMxBlock], Element::kE2M1) * scale, w[i]) << i;
  }
}

TEST(DualLevel, ScaleZeroGivesZeros) {
  EXPECT_EQ(dual_inner(1e-39f, 0.0f), 0.0f);
  EXPECT_EQ(dual_inner(0.0f, 0.0f), 0.0f);
}

// The largest of 512 is 6 to within an ulp and gets the code of 6.
TEST(DualLevel, LargestGetsTheLargestCode) {
  std::mt19937 rng(41);
  std::uniform_real_distribution<float> uniform(1.0f, 2.0f);
  for (int i = 0; i < 100000; ++i) {
    const float amax = std::ldexp(uniform(rng), i % 200 - 100);
    const float t = dual_inner(amax, dual_scale(amax));
    ASSERT_NEAR(t, 6.0, 6 * 0x1p-22);
    ASSERT_EQ(e2m1_from_float(t, Rounding::kHalfEven), 0x7);
  }
}

}  // namespace
}  // namespace mezzotint
