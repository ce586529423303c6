#include "numerics/rounding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace mezzotint {
namespace {

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

TEST(RoundHalfEven, AgreesWithTheCLibraryOnEveryHalf) {
  for (int32_t twice = -600000; twice <= 600000; ++twice) {
    const float value = static_cast<float>(twice) / 2;
    for (float v : {value, std::nextafter(value, INFINITY), std::nextafter(value, -INFINITY)}) {
      ASSERT_EQ(bits_of(round_half_even(v)), bits_of(std::nearbyint(v))) << v;
    }
  }
}

TEST(RoundHalfEven, AgreesWithTheCLibraryOnRandomFloats) {
  std::mt19937 rng(1);
  for (int i = 0; i < 1000000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(rng()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(bits_of(round_half_even(value)), bits_of(std::nearbyint(value))) << value;
  }
}

TEST(RoundHalfEven, KeepsInfinityNaNAndTheSignOfZero) {
  EXPECT_EQ(round_half_even(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(round_half_even(kQuietNaN)));
  EXPECT_TRUE(std::signbit(round_half_even(-0.25f)));
}

TEST(RoundHalfAway, AgreesWithTheCLibraryOnEveryHalf) {
  for (int32_t twice = -600000; twice <= 600000; ++twice) {
    const float value = static_cast<float>(twice) / 2;
    for (float v : {value, std::nextafter(value, INFINITY), std::nextafter(value, -INFINITY)}) {
      ASSERT_EQ(bits_of(round_half_away(v)), bits_of(std::round(v))) << v;
    }
  }
}

TEST(RoundHalfAway, AgreesWithTheCLibraryOnRandomFloats) {
  std::mt19937 rng(2);
  for (int i = 0; i < 1000000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(rng()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(bits_of(round_half_away(value)), bits_of(std::round(value))) << value;
  }
}

TEST(RoundHalfAway, KeepsInfinityAndNaN) {
  EXPECT_EQ(round_half_away(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(round_half_away(kQuietNaN)));
}

TEST(Classification, AgreesWithTheCLibrary) {
  for (float v : {0.0f, -1.0f, INFINITY, -INFINITY, kQuietNaN, std::numeric_limits<float>::max(),
                  std::numeric_limits<float>::denorm_min()}) {
    EXPECT_EQ(is_finite(v), std::isfinite(v)) << v;
    EXPECT_EQ(is_nan(v), std::isnan(v)) << v;
  }
}

TEST(Clamp, KeepsNaN) {
  EXPECT_TRUE(std::isnan(clamp(kQuietNaN, -1, 1)));
  EXPECT_EQ(clamp(3, -1, 1), 1);
  EXPECT_EQ(clamp(-INFINITY, -1, 1), -1);
}

}  // namespace
}  // namespace mezzotint
