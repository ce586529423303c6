#include "numerics/int8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Every finite positive bf16 as amax: the largest value of a row gets the largest code.
TEST(Int8TokenScale, LargestValueGetsCode127ForEveryBf16) {
  int count = 0;
  for (uint32_t bits = 0x0400; bits < 0x7f80; ++bits, ++count) {  // from 2^-119: s is normal
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    const float scale = int8_token_scale(amax);
    ASSERT_EQ(int8_code(amax, scale), 127) << amax;
    ASSERT_EQ(int8_code(-amax, scale), -127) << amax;
    const double exact = static_cast<double>(amax) / 127;
    ASSERT_NEAR(scale, exact, exact * std::ldexp(1.5, -23)) << amax;
  }
  EXPECT_EQ(count, 0x7f80 - 0x0400);
}

TEST(Int8TokenScale, IsOneMultiplicationNotADivision) {
  // 1/127 as float is below 1/127: amax * f32(1/127) and amax / 127 differ for this amax.
  int differ = 0;
  for (int i = 1; i < 1000; ++i) {
    const auto amax = static_cast<float>(i);
    ASSERT_EQ(int8_token_scale(amax), amax * std::bit_cast<float>(0x3c010204u));
    if (int8_token_scale(amax) != amax / 127.0f) ++differ;
  }
  EXPECT_GT(differ, 0);
}

TEST(Int8TokenScale, NonFiniteRowsHaveScaleNaN) {
  EXPECT_TRUE(std::isnan(int8_token_scale(kInfinity)));
  EXPECT_TRUE(std::isnan(int8_token_scale(kQuietNaN)));
}

TEST(Int8Code, AgreesWithTheFormulaInTheCLibrary) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 200000; ++i) {
    const float amax = std::fabs(normal(rng)) + 0.01f;
    const float scale = int8_token_scale(amax);
    const float x = clamp(normal(rng), -amax, amax);
    const float expected = std::nearbyint(x / scale);
    ASSERT_EQ(static_cast<float>(int8_code(x, scale)), expected) << x << " " << scale;
    ASSERT_LE(std::fabs(x - int8_code(x, scale) * scale), scale * (0.5 + std::ldexp(1.0, -15)));
  }
}

// Every bf16 with the scale 1: the C library's rounding to even, then the clamp.
TEST(Int8Code, AgreesWithTheCLibraryOnEveryBf16) {
  int count = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits, ++count) {
    const float x = bf16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(x)) continue;
    const float expected = std::fmin(std::fmax(std::nearbyint(x), -127.0f), 127.0f);
    ASSERT_EQ(static_cast<float>(int8_code(x, 1.0f)), expected) << x;
  }
  EXPECT_EQ(count, 65536);
}

TEST(Int8Code, TiesGoToTheEvenCode) {
  for (int code = -126; code < 126; ++code) {
    const float tie = static_cast<float>(code) + 0.5f;
    const int even = code % 2 == 0 ? code : code + 1;
    EXPECT_EQ(int8_code(tie * 0.25f, 0.25f), even) << tie;
  }
}

TEST(Int8Code, RowsWithoutAScaleHaveZeroCodes) {
  EXPECT_EQ(int8_code(0.0f, 0.0f), 0);
  EXPECT_EQ(int8_code(std::numeric_limits<float>::denorm_min(), 0.0f), 0);
  EXPECT_EQ(int8_code(kInfinity, kQuietNaN), 0);
  EXPECT_EQ(int8_code(kQuietNaN, kQuietNaN), 0);
}

TEST(Int8Code, DenormalScalesCannotLeaveTheRange) {
  for (uint32_t bits = 1; bits < 4000; ++bits) {
    const float amax = std::bit_cast<float>(bits);
    const int code = int8_code(amax, int8_token_scale(amax));
    EXPECT_GE(code, 0);
    EXPECT_LE(code, 127);
  }
}

TEST(Int8ChannelScale, IsABf16ForEveryBf16Amax) {
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    const float scale = int8_channel_scale(amax);
    ASSERT_EQ(scale, round_to_bf16(scale));
    ASSERT_GT(scale, 0.0f);
    ASSERT_LE(std::abs(static_cast<int>(int8_code(-amax, scale))), 127);
  }
}

TEST(Int8ChannelScale, ZeroChannelsGetScaleOne) {
  EXPECT_EQ(int8_channel_scale(0.0f), 1.0f);
  EXPECT_EQ(int8_code(0.0f, int8_channel_scale(0.0f)), 0);
}

TEST(Int8Output, RoundsAfterEachFactorInOrder) {
  std::mt19937 rng(7);
  std::normal_distribution<float> normal;
  bool order_matters = false;
  for (int i = 0; i < 1000; ++i) {
    const auto acc = static_cast<int32_t>(rng() % 2000000) - 1000000;
    const float w = normal(rng), x = normal(rng), bias = normal(rng);
    volatile float step = static_cast<float>(acc) * w;
    step = step * x;
    step = step + bias;
    ASSERT_EQ(int8_output(acc, w, x, bias), step);
    volatile float scales = w * x;
    if (static_cast<float>(acc) * scales + bias != step) order_matters = true;
  }
  EXPECT_TRUE(order_matters);
}

// Every bf16, every offset: the sum is rounded, not x / s.
TEST(Int8StaticCode, AgreesWithTheFormulaInTheCLibrary) {
  int clamped = 0;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    const float x = bf16_to_float(static_cast<uint16_t>(upper));
    if (std::isnan(x)) continue;
    for (int offset = -128; offset < 128; ++offset) {
      const auto zero_point = static_cast<float>(offset);
      const float rounded = std::nearbyint(x / 0.037f + zero_point);
      const float expected = std::fmin(std::fmax(rounded, -128.0f), 127.0f);
      if (expected != rounded) ++clamped;
      ASSERT_EQ(static_cast<float>(int8_static_code(x, 0.037f, zero_point)), expected) << x;
    }
  }
  EXPECT_GT(clamped, 0);
}

TEST(Int8StaticCode, TiesGoToTheCodeThatIsEvenWithTheOffset) {
  for (int offset = -9; offset <= 9; ++offset) {
    for (int i = -50; i < 50; ++i) {
      const float tie = static_cast<float>(i) + 0.5f;
      const int low = i + offset;
      EXPECT_EQ(int8_static_code(tie * 0.25f, 0.25f, static_cast<float>(offset)),
                low % 2 == 0 ? low : low + 1)
          << tie << " " << offset;
    }
  }
}

TEST(Int8StaticCode, WithoutAMeaningIsZero) {
  EXPECT_EQ(int8_static_code(kQuietNaN, 1.0f, 3.0f), 0);
  EXPECT_EQ(int8_static_code(1.0f, kQuietNaN, 3.0f), 0);
  EXPECT_EQ(int8_static_code(kInfinity, kInfinity, 3.0f), 0);
  EXPECT_EQ(int8_static_code(kInfinity, 1.0f, 3.0f), 127);
  EXPECT_EQ(int8_static_code(-kInfinity, 1.0f, 3.0f), -128);
}

// Three channels of k = 8 with x = .1, s = .1, o = -5, so that every code is -4.
TEST(Int8StaticOutput, WorkedLayer) {
  constexpr int8_t kWeights[3][8] = {
      {1, -2, 3, 4, 5, 6, -7, 8}, {0, 0, 0, 0, 0, 0, 0, 1}, {-128, 127, 1, 1, 1, 1, 1, 1}};
  constexpr int32_t kBias[] = {590, -120, 25};
  constexpr float kDeqScale[] = {0.001f, 0.002f, 0.003f};
  constexpr float kExpected[] = {0.518f, -0.248f, 0.015f};
  const int8_t code = int8_static_code(0.1f, 0.1f, -5.0f);
  ASSERT_EQ(code, -4);
  for (int n = 0; n < 3; ++n) {
    int64_t acc = kBias[n];
    for (const int8_t weight : kWeights[n]) acc += int64_t{weight} * code;
    EXPECT_FLOAT_EQ(int8_static_output(acc, kDeqScale[n]), kExpected[n]);
  }
}

}  // namespace
}  // namespace mezzotint
