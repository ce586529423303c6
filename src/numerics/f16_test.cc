#include "numerics/f16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

namespace mezzotint {
namespace {

// The compiler's own binary16.
__extension__ typedef _Float16 Half;

float half_to_float(uint16_t bits) { return static_cast<float>(std::bit_cast<Half>(bits)); }
uint16_t half_from_float(float value) { return std::bit_cast<uint16_t>(static_cast<Half>(value)); }

TEST(F16, EveryValueReadsAsTheCompilersHalf) {
  int count = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits, ++count) {
    const auto half = static_cast<uint16_t>(bits);
    ASSERT_EQ(std::bit_cast<uint32_t>(f16_to_float(half)),
              std::bit_cast<uint32_t>(half_to_float(half)))
        << bits;
  }
  EXPECT_EQ(count, 65536);
}

TEST(F16, EveryValueSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool is_nan = (half & 0x7fff) > 0x7c00;
    ASSERT_EQ(f16_from_float(f16_to_float(half)), is_nan ? half | 0x0200 : half) << bits;
  }
}

TEST(F16, EveryBf16AndTheTiesOfF16RoundAsTheCompilersHalf) {
  int count = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float bf16 = std::bit_cast<float>(bits << 16);
    ASSERT_EQ(f16_from_float(bf16), half_from_float(bf16)) << std::hexfloat << bf16;
    // Between this half and the next one up: the tie and its neighbours.
    const float value = f16_to_float(static_cast<uint16_t>(bits));
    const float next = f16_to_float(static_cast<uint16_t>(bits + 1));
    if (!std::isfinite(value) || !std::isfinite(next)) continue;
    const float tie = value + (next - value) / 2;
    for (float v : {tie, std::nextafter(tie, -INFINITY), std::nextafter(tie, INFINITY)}) {
      ASSERT_EQ(f16_from_float(v), half_from_float(v)) << std::hexfloat << v;
    }
    ++count;
  }
  EXPECT_EQ(count, 2 * 0x7c00 - 2);
}

TEST(F16, RandomFloatsRoundAsTheCompilersHalf) {
  std::mt19937 rng(1);
  for (int i = 0; i < 1000000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(rng()));
    ASSERT_EQ(f16_from_float(value), half_from_float(value)) << std::hexfloat << value;
  }
}

TEST(F16, RangeAroundTheDenormalsRoundsAsTheCompilersHalf) {
  for (uint32_t bits = 0x33000000; bits < 0x39000000; bits += 0x65) {
    const float value = std::bit_cast<float>(bits);
    ASSERT_EQ(f16_from_float(value), half_from_float(value)) << std::hexfloat << value;
  }
}

}  // namespace
}  // namespace mezzotint
