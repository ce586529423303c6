#include "numerics/bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "numerics/golden_testing.h"

namespace mezzotint {
namespace {

// The nearest bf16 by arithmetic of another kind: the quotient by the spacing of bf16 around the
// value, rounded by the C library in long double.
float nearest_bf16(float value) {
  if (!std::isfinite(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), -126);
  const long double spacing = std::ldexp(1.0L, exponent - 7);
  const long double rounded = std::nearbyint(static_cast<long double>(value) / spacing) * spacing;
  const long double largest = std::ldexp(255.0L, 120);
  if (std::fabs(rounded) > largest) return std::copysign(INFINITY, value);
  return static_cast<float>(rounded);
}

TEST(Bf16, EveryValueSurvivesARoundTrip) {
  int count = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits, ++count) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = bf16_to_float(half);
    if (std::isnan(value)) {
      EXPECT_EQ(bf16_from_float(value), half | 0x40) << bits;  // quiet, payload kept
    } else {
      ASSERT_EQ(bf16_from_float(value), half) << bits;
    }
  }
  EXPECT_EQ(count, 65536);
}

TEST(Bf16, TiesAndTheirNeighboursRoundHalfToEven) {
  int count = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    for (uint32_t low : {0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float value = std::bit_cast<float>(bits << 16 | low);
      if (std::isnan(value)) continue;
      ASSERT_EQ(std::bit_cast<uint32_t>(round_to_bf16(value)),
                std::bit_cast<uint32_t>(nearest_bf16(value)))
          << std::hexfloat << value;
      ++count;
    }
  }
  EXPECT_EQ(count, 5 * (65536 - 256));  // all but the NaNs
}

// The same floats, all at once: FNV-1a of their codes, which ml_dtypes and torch agree on.
TEST(Bf16, TiesAndTheirNeighboursHaveTheLibrariesCodes) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](unsigned byte) { hash = (hash ^ byte) * 0x100000001b3u; };
  for (uint32_t upper = 0; upper < 65536; ++upper) {
    for (uint32_t low : {0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float value = float_of_bits(upper << 16 | low);
      if (std::isnan(value)) continue;
      const uint16_t code = bf16_from_float(value);
      add(code & 0xff);
      add(code >> 8);
    }
  }
  const GoldenJson golden = read_numerics_golden(MZ_SOURCE_DIR, "elements.json").at("bf16");
  EXPECT_EQ(hash, std::stoull(golden.at("fnv1a").get<std::string>(), nullptr, 16));
}

TEST(Bf16, RandomFloatsRoundToTheNearest) {
  std::mt19937 rng(1);
  for (int i = 0; i < 1000000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(rng()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(round_to_bf16(value), nearest_bf16(value)) << std::hexfloat << value;
  }
}

TEST(Bf16, EveryNaNStaysNaN) {
  for (uint32_t payload = 1; payload < 0x800000; payload += 0x7f) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      const uint16_t half = bf16_from_float(std::bit_cast<float>(sign | 0x7f800000u | payload));
      ASSERT_EQ(half & 0x7fc0, 0x7fc0) << payload;
      ASSERT_EQ(half >> 15, sign >> 31);
    }
  }
}

}  // namespace
}  // namespace mezzotint
