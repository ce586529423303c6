#include "numerics/int4.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Every finite positive bf16 as amax: the largest value of a row gets the largest code.
TEST(Int4TokenScale, LargestValueGetsCode7ForEveryBf16) {
  int count = 0;
  for (uint32_t bits = 0x0400; bits < 0x7f80; ++bits, ++count) {  // s is normal
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    const float scale = int4_token_scale(amax);
    ASSERT_EQ(int4_code(amax, scale), 7) << amax;
    ASSERT_EQ(int4_code(-amax, scale), -7) << amax;
    const double exact = static_cast<double>(amax) / 7;
    ASSERT_NEAR(scale, exact, exact * std::ldexp(1.5, -23)) << amax;
  }
  EXPECT_EQ(count, 0x7f80 - 0x0400);
}

TEST(Int4TokenScale, IsOneMultiplicationNotADivision) {
  int differ = 0;
  for (int i = 1; i < 1000; ++i) {
    const auto amax = static_cast<float>(i);
    ASSERT_EQ(int4_token_scale(amax), amax * std::bit_cast<float>(0x3e124925u));
    if (int4_token_scale(amax) != amax / 7.0f) ++differ;
  }
  EXPECT_GT(differ, 0);
}

TEST(Int4TokenScale, NonFiniteRowsHaveScaleNaN) {
  EXPECT_TRUE(std::isnan(int4_token_scale(kInfinity)));
  EXPECT_TRUE(std::isnan(int4_token_scale(std::nanf(""))));
}

// Every bf16 with the scale 1: the C library's rounding to even, then the clamp.
TEST(Int4Code, AgreesWithTheCLibraryOnEveryBf16) {
  int count = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits, ++count) {
    const float x = bf16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(x)) continue;
    const float expected = std::fmin(std::fmax(std::nearbyint(x), -7.0f), 7.0f);
    ASSERT_EQ(static_cast<float>(int4_code(x, 1.0f)), expected) << x;
  }
  EXPECT_EQ(count, 65536);
}

TEST(Int4Code, TiesGoToTheEvenCode) {
  for (int code = -6; code < 6; ++code) {
    const float tie = static_cast<float>(code) + 0.5f;
    EXPECT_EQ(int4_code(tie * 0.25f, 0.25f), code % 2 == 0 ? code : code + 1) << tie;
    EXPECT_EQ(int4_code(std::nextafter(tie, -kInfinity), 1.0f), code) << tie;
    EXPECT_EQ(int4_code(std::nextafter(tie, kInfinity), 1.0f), code + 1) << tie;
  }
}

TEST(Int4Code, RowsWithoutAScaleHaveZeroCodes) {
  EXPECT_EQ(int4_code(0.0f, 0.0f), 0);
  EXPECT_EQ(int4_code(std::numeric_limits<float>::denorm_min(), 0.0f), 0);
  EXPECT_EQ(int4_code(kInfinity, std::nanf("")), 0);
}

TEST(Int4WeightScale, IsABf16AndNeverZero) {
  EXPECT_EQ(int4_weight_scale(0.0f), 1.0f);
  EXPECT_EQ(int4_weight_scale(std::numeric_limits<float>::denorm_min()), 1.0f);
  EXPECT_TRUE(std::isnan(int4_weight_scale(kInfinity)));
  for (int i = 1; i < 1000; ++i) {
    const float scale = int4_weight_scale(static_cast<float>(i) * 0.01f);
    ASSERT_EQ(scale, round_to_bf16(scale));
    ASSERT_NEAR(scale, i * 0.01 / 7, i * 0.01 / 7 * (0x1p-8 + 0x1p-22));
  }
}

}  // namespace
}  // namespace mezzotint
