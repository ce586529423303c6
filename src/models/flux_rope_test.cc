#include "models/flux_rope.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

const FluxConfig kFlux{};  // head_dim 128, axes 16, 56, 56

// Column of pair j of an axis in the tables.
constexpr int64_t kRowAxis = 8, kColAxis = 8 + 28;

TEST(FluxRope, MatchesTheValuesOfTheSpecification) {
  const FluxRope rope = flux_rope(kFlux, 0, 4, 1);
  const float* cos = rope.cos.data<float>() + 3 * 64 + kRowAxis;
  const float* sin = rope.sin.data<float>() + 3 * 64 + kRowAxis;
  EXPECT_NEAR(cos[0], -.989992, 1e-6);
  EXPECT_NEAR(sin[0], .141120, 1e-6);
  EXPECT_NEAR(cos[1], -.554915, 1e-6);
  EXPECT_NEAR(sin[1], .831907, 1e-6);
  EXPECT_NEAR(cos[27], 1.0, 1e-6);
  EXPECT_NEAR(sin[27], .000417, 1e-6);
}

TEST(FluxRope, LeavesTextAloneAndCountsRowsThenColumns) {
  const FluxRope rope = flux_rope(kFlux, 2, 3, 5);
  EXPECT_EQ(rope.text_tokens, 2);
  EXPECT_EQ(rope.image_tokens, 15);
  ASSERT_EQ(rope.cos.shape(), (Shape{17, 64}));
  const float* cos = rope.cos.data<float>();
  const float* sin = rope.sin.data<float>();
  for (int64_t i = 0; i < 3 * 64; ++i) {  // text, and the image token (0, 0)
    EXPECT_EQ(cos[i], 1.0f);
    EXPECT_EQ(sin[i], 0.0f);
  }
  const int64_t token = 2 + 1 * 5 + 4;  // row 1, column 4
  EXPECT_EQ(sin[token * 64], 0.0f);
  EXPECT_FLOAT_EQ(sin[token * 64 + kRowAxis], 0.84147098f);
  EXPECT_FLOAT_EQ(sin[token * 64 + kColAxis], -0.75680250f);
}

TEST(FluxRope, RefusesIdsThatDoNotFit) {
  const std::array<float, 8> ids{};
  EXPECT_THROW(flux_rope(kFlux, 1, ids), Error);
  const std::array<float, 6> two{};
  EXPECT_THROW(flux_rope(kFlux, 3, two), Error);
  FluxConfig two_axes = kFlux;
  two_axes.axes_dims_rope = {64, 64};
  EXPECT_THROW(flux_rope(two_axes, 1, 2, 2), Error);
}

TEST(FluxTimeProjection, MatchesTheValuesOfTheSpecification) {
  std::array<float, kTimeChannels> out{};
  flux_time_projection(500.0f, out.data());
  // Angles up to 500 in f32: half an ulp of the angle is 1.5e-5.
  constexpr double kTolerance = 2e-5;
  EXPECT_NEAR(out[0], -.883849, kTolerance);
  EXPECT_NEAR(out[1], .945943, kTolerance);
  EXPECT_NEAR(out[64], .283662, kTolerance);
  EXPECT_NEAR(out[127], .998557, kTolerance);
  EXPECT_NEAR(out[128], -.467772, kTolerance);
  EXPECT_NEAR(out[129], .324334, kTolerance);
  EXPECT_NEAR(out[192], -.958924, kTolerance);
  flux_time_projection(500.01f, out.data());
  EXPECT_GT(std::abs(out[0] + .883849), kTolerance);
}

}  // namespace
}  // namespace mezzotint
