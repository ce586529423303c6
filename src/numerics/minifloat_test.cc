// e4m3, e5m2 and e2m1 together: the same claims for each, with either rounding.

#include "numerics/minifloat.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e5m2.h"
#include "numerics/golden_testing.h"

namespace mezzotint {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kSignBit = 0x80000000u;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  std::string name;
  uint8_t (*encode)(float, Rounding);
  float (*decode)(uint8_t);
  Minifloat format;
  float largest;
  Rounding rounding;

  uint8_t code(uint32_t bits) const { return encode(float_of_bits(bits), rounding); }
  uint8_t negative(int code) const { return static_cast<uint8_t>(code | format.sign_bit); }
};

// MZ_HD functions have no address of their own that a table may rely on.
uint8_t encode_e4m3(float v, Rounding r) { return e4m3_from_float(v, r); }
uint8_t encode_e5m2(float v, Rounding r) { return e5m2_from_float(v, r); }
uint8_t encode_e2m1(float v, Rounding r) { return e2m1_from_float(v, r); }
float decode_e4m3(uint8_t code) { return e4m3_to_float(code); }
float decode_e5m2(uint8_t code) { return e5m2_to_float(code); }
float decode_e2m1(uint8_t code) { return e2m1_to_float(code); }

Case e4m3(Rounding r) { return {"e4m3", encode_e4m3, decode_e4m3, kE4M3Format, kE4M3Max, r}; }
Case e5m2(Rounding r) { return {"e5m2", encode_e5m2, decode_e5m2, kE5M2Format, kE5M2Max, r}; }
Case e2m1(Rounding r) { return {"e2m1", encode_e2m1, decode_e2m1, kE2M1Format, kE2M1Max, r}; }

std::string rounding_name(Rounding rounding) {
  return rounding == Rounding::kHalfEven ? "half_even" : "half_away";
}

class MinifloatCast : public testing::TestWithParam<Case> {
 protected:
  static Staircase golden(const Case& c) {
    const GoldenJson json = read_numerics_golden(MZ_SOURCE_DIR, "elements.json");
    return read_staircase(json.at(c.name).at(rounding_name(c.rounding)));
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, MinifloatCast,
                         testing::Values(e4m3(Rounding::kHalfEven), e4m3(Rounding::kHalfAway),
                                         e5m2(Rounding::kHalfEven), e5m2(Rounding::kHalfAway),
                                         e2m1(Rounding::kHalfEven), e2m1(Rounding::kHalfAway)),
                         [](const auto& info) {
                           return info.param.name + "_" + rounding_name(info.param.rounding);
                         });

TEST_P(MinifloatCast, ChangesTheCodeExactlyWhereTheLibraryDoes) {
  const Case& c = GetParam();
  const Staircase stairs = golden(c);
  ASSERT_EQ(stairs.first, 0);
  ASSERT_EQ(stairs.edges.size(), c.format.max_code);
  int code = 0;
  for (const uint32_t edge : stairs.edges) {
    ASSERT_EQ(c.code(edge - 1), code) << edge;
    ++code;
    ASSERT_EQ(c.code(edge), code) << edge;
    ASSERT_EQ(c.code(edge | kSignBit), c.negative(code)) << edge;
    ASSERT_EQ(c.code((edge - 1) | kSignBit), c.negative(code - 1)) << edge;
  }
  EXPECT_EQ(c.code(stairs.last), c.format.max_code);
}

TEST_P(MinifloatCast, AgreesOnEveryBf16) {
  const Case& c = GetParam();
  const Staircase stairs = golden(c);
  int count = 0;
  for (uint32_t upper = 0; upper < 0x10000; ++upper, ++count) {
    const uint32_t bits = upper << 16;
    const uint32_t magnitude = bits & ~kSignBit;
    if (magnitude > kInfinityBits) {
      ASSERT_EQ(c.code(bits), c.format.nan_code) << upper;
      continue;
    }
    const bool drops_sign = magnitude == 0 && c.rounding == Rounding::kHalfAway;
    const int code = stairs.code(magnitude);
    const int expected = bits == magnitude || drops_sign ? code : c.negative(code);
    ASSERT_EQ(c.code(bits), expected) << upper;
  }
  EXPECT_EQ(count, 65536);
}

TEST_P(MinifloatCast, AgreesOnFourMillionRandomFloats) {
  const Case& c = GetParam();
  const Staircase stairs = golden(c);
  std::mt19937 rng(23);
  for (int i = 0; i < 4000000; ++i) {
    // Half of them between the smallest denormal's half and twice the largest value.
    const uint32_t any = static_cast<uint32_t>(rng()) & ~kSignBit;
    const uint32_t bits = i % 2 == 0 ? any : stairs.edges.front() + any % (1u << 28);
    if (bits >= kInfinityBits || bits == 0) continue;
    const int code = stairs.code(bits);
    ASSERT_EQ(c.code(bits), code) << bits;
    ASSERT_EQ(c.code(bits | kSignBit), c.negative(code)) << bits;
  }
}

// One float in 61, and its neighbours by the monotony that the edges show.
TEST_P(MinifloatCast, SlowNeverFallsAndAgreesOnASweepOfAllFloats) {
  const Case& c = GetParam();
  const Staircase stairs = golden(c);
  int64_t count = 0;
  int expected = 0;
  for (uint32_t bits = 0; bits < kInfinityBits; bits += 61, ++count) {
    while (expected < c.format.max_code && bits >= stairs.edges[static_cast<size_t>(expected)]) {
      ++expected;
    }
    ASSERT_EQ(c.code(bits), expected) << bits;
  }
  EXPECT_EQ(count, (kInfinityBits + 60) / 61);
}

// From the values alone: a tie goes to the even code or to the larger one, its neighbours where
// they are nearer.
TEST_P(MinifloatCast, TiesGoWhereTheRoundingSays) {
  const Case& c = GetParam();
  for (int code = 0; code < c.format.max_code; ++code) {
    const float low = c.decode(static_cast<uint8_t>(code));
    const float high = c.decode(static_cast<uint8_t>(code + 1));
    const float tie = low + (high - low) / 2;
    const int even = code % 2 == 0 ? code : code + 1;
    const int rounded = c.rounding == Rounding::kHalfEven ? even : code + 1;
    ASSERT_EQ(c.encode(tie, c.rounding), rounded) << tie;
    ASSERT_EQ(c.encode(-tie, c.rounding), c.negative(rounded)) << tie;
    ASSERT_EQ(c.encode(std::nextafter(tie, 0.0f), c.rounding), code) << tie;
    ASSERT_EQ(c.encode(std::nextafter(tie, kInfinity), c.rounding), code + 1) << tie;
  }
}

TEST_P(MinifloatCast, KeepsEveryValueItHolds) {
  const Case& c = GetParam();
  int count = 0;
  for (int code = 0; code <= c.format.max_code; ++code, ++count) {
    const float value = c.decode(static_cast<uint8_t>(code));
    ASSERT_EQ(c.encode(value, c.rounding), code);
    ASSERT_EQ(c.decode(c.negative(code)), -value);
    ASSERT_TRUE(std::signbit(c.decode(c.negative(code))));
    if (code == 0) continue;  // the sign of zero has a test of its own
    ASSERT_EQ(c.encode(-value, c.rounding), c.negative(code));
  }
  EXPECT_EQ(count, c.format.max_code + 1);
  EXPECT_EQ(c.decode(c.format.max_code), c.largest);
}

TEST_P(MinifloatCast, SaturatesAndHasOneNaN) {
  const Case& c = GetParam();
  const uint8_t largest = c.format.max_code;
  EXPECT_EQ(c.encode(std::numeric_limits<float>::max(), c.rounding), largest);
  EXPECT_EQ(c.encode(kInfinity, c.rounding), largest);
  EXPECT_EQ(c.encode(-kInfinity, c.rounding), c.negative(largest));
  EXPECT_EQ(c.encode(std::nextafter(c.largest, kInfinity), c.rounding), largest);
  for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0xff800001u, 0xffffffffu}) {
    EXPECT_EQ(c.code(bits), c.format.nan_code) << bits;
  }
}

TEST_P(MinifloatCast, ZeroKeepsItsSignOnlyWhenRoundedToEven) {
  const Case& c = GetParam();
  const GoldenJson json = read_numerics_golden(MZ_SOURCE_DIR, "elements.json");
  const int golden = json.at(c.name).at(rounding_name(c.rounding)).at("negative_zero");
  EXPECT_EQ(c.encode(-0.0f, c.rounding), golden);
  EXPECT_EQ(c.encode(-0.0f, c.rounding), c.rounding == Rounding::kHalfEven ? c.format.sign_bit : 0);
  EXPECT_EQ(c.encode(-1e-30f, c.rounding), c.format.sign_bit);  // rounds to -0, is not -0
}

// Not parameterized: values do not depend on a rounding.
TEST(MinifloatValues, EveryCodeHasTheLibrarysValue) {
  const GoldenJson json = read_numerics_golden(MZ_SOURCE_DIR, "elements.json");
  const Case cases[] = {e4m3(Rounding::kHalfEven), e5m2(Rounding::kHalfEven),
                        e2m1(Rounding::kHalfEven)};
  int count = 0;
  for (const Case& c : cases) {
    const GoldenJson& values = json.at(c.name).at("values");
    for (size_t code = 0; code < values.size(); ++code, ++count) {
      const float value = c.decode(static_cast<uint8_t>(code));
      if (values[code].is_string()) {
        EXPECT_TRUE(std::isnan(value)) << c.name << " " << code;
      } else {
        EXPECT_EQ(std::bit_cast<uint32_t>(value), values[code].get<uint32_t>())
            << c.name << " " << code;
      }
    }
  }
  EXPECT_EQ(count, 256 + 256 + 16);
}

TEST(E2M1Doubled, IsTwiceTheValueOfEveryCode) {
  for (int code = 0; code < 256; ++code) {  // the upper four bits are ignored
    const auto byte = static_cast<uint8_t>(code);
    EXPECT_EQ(e2m1_doubled(byte), static_cast<int>(2 * e2m1_to_float(byte & 15))) << code;
    EXPECT_EQ(e2m1_to_float(byte), e2m1_to_float(byte & 15)) << code;
  }
}

TEST(MinifloatWorkedNumbers, CodesOfNaN) {
  EXPECT_EQ(e4m3_from_float(-kQuietNaN, Rounding::kHalfEven), 0x7f);
  EXPECT_EQ(e5m2_from_float(-kQuietNaN, Rounding::kHalfEven), 0x7f);
  EXPECT_EQ(e2m1_from_float(-kQuietNaN, Rounding::kHalfEven), 0x0);
}

// Worked numbers of the exporter's rounding, and of the tie table of e2m1.
TEST(MinifloatWorkedNumbers, HalfAwayAndHalfToEven) {
  constexpr Rounding kAway = Rounding::kHalfAway;
  EXPECT_EQ(e4m3_to_float(e4m3_from_float(17.0f, kAway)), 18.0f);
  EXPECT_EQ(e4m3_to_float(e4m3_from_float(19.0f, kAway)), 20.0f);
  EXPECT_EQ(e4m3_to_float(e4m3_from_float(-1.0625f, kAway)), -1.125f);
  EXPECT_EQ(e4m3_to_float(e4m3_from_float(0x1p-10f, kAway)), 0x1p-9f);
  const float ties[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const float away[] = {0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const float even[] = {0.0f, 1.0f, 1.0f, 2.0f, 2.0f, 4.0f, 4.0f};
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(e2m1_to_float(e2m1_from_float(ties[i], kAway)), away[i]);
    EXPECT_EQ(e2m1_to_float(e2m1_from_float(ties[i], Rounding::kHalfEven)), even[i]);
  }
}

}  // namespace
}  // namespace mezzotint
