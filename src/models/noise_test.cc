#include "models/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mezzotint {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers of Random123 1.14, tests/kat_vectors, philox4x32 10.
TEST(Philox, MatchesTheKnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox4x32_10({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                          {0xa4093822u, 0x299f31d0u}),
            (Words{0xd16cfe09u, 0x94fdcceb, 0x5001e420u, 0x24126ea1u}));
}

// Printed by `python tools/noise.py 42 0 6` and `... 1311768467463790320 3 6`.
TEST(Noise, MatchesTheNumpyTwin) {
  std::vector<float> values(6);
  fill_noise(42, 0, values);
  const std::vector<float> expected{-0.9701898f, 0.19401896f,  -1.2356207f,
                                    1.9239267f,  -0.07318151f, 0.13913749f};
  EXPECT_EQ(values, expected);
  fill_noise(0x123456789abcdef0u, 3, values);
  const std::vector<float> other{-0.7649445f, -0.92770547f, 0.020443724f,
                                 -1.2081276f, -1.0872568f,  -0.11492001f};
  EXPECT_EQ(values, other);
}

TEST(Noise, DependsOnIndexAlone) {
  std::vector<float> whole(32), part(9);
  fill_noise(7, 1, whole);
  fill_noise(7, 1, part, 5);
  for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], whole[i + 5]) << i;
}

TEST(Noise, DiffersBetweenSamplesAndSeeds) {
  std::vector<float> a(4), b(4), c(4);
  fill_noise(7, 0, a);
  fill_noise(7, 1, b);
  fill_noise(uint64_t{7} << 32, 0, c);
  EXPECT_NE(a, b);
  EXPECT_NE(a, c);
}

TEST(Noise, HasTheMomentsOfAStandardNormal) {
  constexpr size_t kCount = 1 << 18;
  std::vector<float> values(kCount);
  fill_noise(1, 0, values);
  double sum = 0, squares = 0, fourth = 0;
  for (const float value : values) {
    const double square = double{value} * value;
    sum += value;
    squares += square;
    fourth += square * square;
  }
  // Five standard errors: 1/sqrt(n), sqrt(2/n), sqrt(96/n).
  const double unit = 5 / std::sqrt(static_cast<double>(kCount));
  EXPECT_NEAR(sum / kCount, 0, unit);
  EXPECT_NEAR(squares / kCount, 1, unit * std::sqrt(2.0));
  EXPECT_NEAR(fourth / kCount, 3, unit * std::sqrt(96.0));
}

}  // namespace
}  // namespace mezzotint
