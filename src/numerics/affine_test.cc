#include "numerics/affine.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "numerics/golden_testing.h"

namespace mezzotint {
namespace {

TEST(Affine, HasTheParametersAndCodesOfTheExporter) {
  const GoldenJson golden = read_numerics_golden(MZ_SOURCE_DIR, "affine.json");
  int count = 0;
  for (const GoldenJson& c : golden.at("cases")) {
    const int bits = c.at("bits");
    for (size_t i = 0; i < c.at("ranges").size(); ++i, ++count) {
      const float min = float_of_bits(c.at("ranges").at(i).at(0));
      const float max = float_of_bits(c.at("ranges").at(i).at(1));
      const AffineParams params = affine_params(min, max, bits, c.at("symmetric"));
      ASSERT_EQ(std::bit_cast<uint32_t>(params.scale), c.at("scales").at(i)) << min << " " << max;
      ASSERT_EQ(params.offset, c.at("offsets").at(i)) << min << " " << max;
      for (size_t j = 0; j < golden.at("weights").size(); ++j) {
        const float w = float_of_bits(golden.at("weights").at(j));
        ASSERT_EQ(affine_code(w, params, bits), c.at("codes").at(i).at(j)) << w;
      }
    }
  }
  EXPECT_EQ(count, 4 * 24);
}

// Ranges (-1, 2), (.5, 3), (0, 0), (-3, -1).
TEST(Affine, WorkedParameters) {
  struct {
    float min, max;
    float symmetric8, symmetric4, scale8, offset8, scale4, offset4;
  } const cases[] = {
      {-1.0f, 2.0f, 0.01574803f, 0.2857143f, 0.01176471f, -43, 0.2f, -3},
      {0.5f, 3.0f, 0.02362205f, 0.4285714f, 0.01176471f, -128, 0.2f, -8},
      {0.0f, 0.0f, 1.1920929e-7f, 1.1920929e-7f, 1.1920929e-7f, -128, 1.1920929e-7f, -8},
      {-3.0f, -1.0f, 0.02362205f, 0.4285714f, 0.01176471f, 127, 0.2f, 7},
  };
  for (const auto& c : cases) {
    EXPECT_FLOAT_EQ(affine_params(c.min, c.max, 8, true).scale, c.symmetric8);
    EXPECT_FLOAT_EQ(affine_params(c.min, c.max, 4, true).scale, c.symmetric4);
    EXPECT_EQ(affine_params(c.min, c.max, 8, true).offset, 0.0f);
    EXPECT_FLOAT_EQ(affine_params(c.min, c.max, 8, false).scale, c.scale8);
    EXPECT_EQ(affine_params(c.min, c.max, 8, false).offset, c.offset8);
    EXPECT_FLOAT_EQ(affine_params(c.min, c.max, 4, false).scale, c.scale4);
    EXPECT_EQ(affine_params(c.min, c.max, 4, false).offset, c.offset4);
  }
}

TEST(Affine, RoundsHalfToEvenAndClamps) {
  const float w[] = {2.5f, 3.5f, -2.5f, -200.0f, 200.0f};
  const int codes[] = {2, 4, -2, -128, 127};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(affine_code(w[i], {.scale = 1.0f, .offset = 0.0f}, 8), codes[i]) << w[i];
  }
  EXPECT_EQ(affine_code(-200.0f, {.scale = 1.0f, .offset = 0.0f}, 4), -8);
  EXPECT_EQ(affine_code(std::nanf(""), {.scale = 1.0f, .offset = 3.0f}, 8), 0);
}

TEST(Affine, ValueUndoesTheOffset) {
  const int codes[] = {-128, 0, 127};
  const float values[] = {-50.0f, 14.0f, 77.5f};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(affine_value(codes[i], {.scale = 0.5f, .offset = -28.0f}), values[i]);
  }
}

// Zero is a code of every range, and its value is exactly zero.
TEST(Affine, ZeroStaysZero) {
  for (const int bits : {4, 8}) {
    for (int i = -40; i <= 40; ++i) {
      const float min = static_cast<float>(i) * 0.37f;
      const AffineParams params = affine_params(min, min + 1.7f, bits, false);
      const int8_t code = affine_code(0.0f, params, bits);
      EXPECT_EQ(static_cast<float>(code), params.offset);
      EXPECT_EQ(affine_value(code, params), 0.0f);
    }
  }
}

// Every value of the range is within half a step, and a step within eps of its float.
TEST(Affine, ErrorIsHalfAStep) {
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {false, true}) {
      const AffineParams params = affine_params(-1.3f, 2.9f, bits, symmetric);
      for (int i = 0; i <= 4200; ++i) {
        const float w = -1.3f + static_cast<float>(i) * 0.001f;
        const float d = affine_value(affine_code(w, params, bits), params);
        // Asymmetric: the offset is rounded, too, and may push an end out by half a step.
        const float steps = symmetric ? 0.5f : 1.0f;
        ASSERT_LE(std::fabs(d - w), params.scale * (steps + 0x1p-12f)) << w;
      }
    }
  }
}

}  // namespace
}  // namespace mezzotint
