#include "numerics/fp8_block.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "numerics/bf16.h"
#include "numerics/golden_testing.h"

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Fp8BlockScale, IsADivisionForEveryBf16) {
  int differ = 0;
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    const auto exact = static_cast<float>(static_cast<double>(amax) / 448);
    ASSERT_EQ(fp8_block_scale(amax), exact) << amax;
    if (exact != amax * (1.0f / 448.0f)) ++differ;
  }
  EXPECT_GT(differ, 0);
}

TEST(Fp8Block, HasTheScalesAndCodesOfTorch) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_blocks.json");
  const std::vector<float> x = golden_rows(goldens);
  const GoldenJson& golden = goldens.at("torch").at("e4m3 / 448");
  const std::vector<uint8_t> codes = read_hexadecimal(golden.at(1).get<std::string>());
  const size_t tiles = golden.at(0).size();
  ASSERT_EQ(tiles, 16u);
  const size_t count = x.size() / tiles;
  for (size_t i = 0; i < tiles; ++i) {
    float amax = 0;
    for (size_t j = 0; j < count; ++j) amax = std::fmax(amax, std::fabs(x[i * count + j]));
    const float scale = fp8_block_scale(amax);
    EXPECT_EQ(std::bit_cast<uint32_t>(scale), golden.at(0).at(i).get<uint32_t>()) << i;
    for (size_t j = 0; j < count; ++j) {
      EXPECT_EQ(fp8_block_code(x[i * count + j], scale), codes[i * count + j]) << i << " " << j;
    }
  }
}

TEST(Fp8BlockScale, TilesThatAreNotFiniteHaveScaleNaN) {
  EXPECT_TRUE(std::isnan(fp8_block_scale(kInfinity)));
  EXPECT_TRUE(std::isnan(fp8_block_scale(std::nanf(""))));
}

TEST(Fp8BlockCode, LargestGets448ForEveryBf16) {
  for (uint32_t bits = 0x0680; bits < 0x7f80; ++bits) {  // from 2^-114: s is normal
    const float amax = bf16_to_float(static_cast<uint16_t>(bits));
    const float scale = fp8_block_scale(amax);
    ASSERT_EQ(fp8_block_code(amax, scale), 0x7e) << amax;
    ASSERT_EQ(fp8_block_code(-amax, scale), 0xfe) << amax;
  }
}

TEST(Fp8BlockCode, TilesWithoutAScaleHaveZeroCodes) {
  EXPECT_EQ(fp8_block_code(0.0f, 0.0f), 0);
  EXPECT_EQ(fp8_block_code(-1.0f, 0.0f), 0);
  EXPECT_EQ(fp8_block_code(kInfinity, std::nanf("")), 0);
}

// |q s - x| <= max(2^-4 |x|, 2^-10 s), and the two roundings of float.
TEST(Fp8BlockCode, ErrorIsHalfAStep) {
  std::mt19937 rng(43);
  std::normal_distribution<float> normal;
  int coarse = 0;
  for (int i = 0; i < 200000; ++i) {
    const float amax = 3.0f + std::fabs(normal(rng));
    const float scale = fp8_block_scale(amax);
    const float x = clamp(normal(rng), -amax, amax);
    const double error = std::fabs(double{e4m3_to_float(fp8_block_code(x, scale))} * scale - x);
    const double bound = std::fmax(0x1p-4 * std::fabs(x), 0x1p-10 * scale);
    ASSERT_LE(error, bound * (1 + 0x1p-20)) << x;
    if (error > bound * 0.9) ++coarse;
  }
  EXPECT_GT(coarse, 0);  // the bound is not loose
}

}  // namespace
}  // namespace mezzotint
