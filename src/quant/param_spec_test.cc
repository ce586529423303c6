#include "quant/param_spec.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

TEST(ParamSpec, ShapesAreAlternativesOfLettersAndNumbers) {
  const LayerDims dims = {.n = 6, .k = 40};
  EXPECT_TRUE(match_shape("N,1 | N | 1,N", {6, 1}, dims));
  EXPECT_TRUE(match_shape("N,1 | N | 1,N", {6}, dims));
  EXPECT_TRUE(match_shape("N,1 | N | 1,N", {1, 6}, dims));
  EXPECT_FALSE(match_shape("N,1 | N | 1,N", {6, 2}, dims));
  EXPECT_FALSE(match_shape("N,1 | N | 1,N", {6, 1, 1}, dims));
  EXPECT_FALSE(match_shape("N,K", {40, 6}, dims));
  EXPECT_EQ(written_shape("N,1 | N", dims), (Shape{6, 1}));
  EXPECT_EQ(accepted_shapes("N,1 | N", dims), (std::vector<Shape>{{6, 1}, {6}}));
  EXPECT_EQ(expected_shapes("N,1 | N", dims), "[6,1] or [6]");
  EXPECT_EQ(expected_shapes("N,K", {}), "[N,K]");
}

TEST(ParamSpec, UnknownDimensionsTakeAnySizeButNone) {
  EXPECT_TRUE(match_shape("N,K", {3, 5}, {}));
  EXPECT_FALSE(match_shape("N,K", {3, 0}, {}));
}

TEST(ParamSpec, LettersAreBoundByTheFirstShapeThatHasThem) {
  const LayerDims dims = {.n = 6, .k = 40};
  EXPECT_EQ(match_shape("N,1 | N,G", {6, 1}, dims)->groups, 0);
  EXPECT_EQ(match_shape("N,1 | N,G", {6, 5}, dims)->groups, 5);
  EXPECT_FALSE(match_shape("N,1 | N,G", {6, 3}, dims));  // 40 columns have no 3 equal groups
  EXPECT_EQ(match_shape("T,N", {4, 6}, dims)->steps, 4);
  EXPECT_FALSE(match_shape("T,N", {3, 6}, {.n = 6, .k = 40, .steps = 4}));
  EXPECT_EQ(match_shape("R,K", {2, 40}, dims)->rank, 2);
  EXPECT_TRUE(match_shape("N,H", {6, 20}, dims));
  EXPECT_TRUE(match_shape("N,H", {6, 20}, {.n = 6, .k = 39}));
  EXPECT_TRUE(match_shape("M,K", {3, 40}, dims));
  EXPECT_TRUE(match_shape("N,B", {6, 2}, dims));
  EXPECT_TRUE(match_shape("N,D,1", {6, 3, 1}, {.n = 6, .k = 1088}));
}

TEST(ParamSpec, NamesFollowThePrefixRule) {
  EXPECT_EQ(tensor_name({.suffix = "weight", .dtypes = {}, .shapes = "N"}, "a.b", "a.b.linear"),
            "a.b.linear.weight");
  EXPECT_EQ(
      tensor_name(
          {.suffix = "div.mul_scale", .dtypes = {}, .shapes = "K", .prefix = PrefixRule::kLayer},
          "a.b", "a.b.linear"),
      "a.b.div.mul_scale");
}

constexpr std::array<DType, 2> kDtypes = {DType::kF32, DType::kBF16};

Error check(ValueRule rule, const std::vector<float>& values) {
  const ParamSpec spec = {.suffix = "s", .dtypes = kDtypes, .shapes = "N,K", .values = rule};
  const LayerFile file = {.layer = "x",
                          .prefix = "x",
                          .file = "f",
                          .tensor = [&](const std::string&) -> std::optional<Tensor> {
                            return float_tensor(DType::kF32,
                                                {1, static_cast<int64_t>(values.size())}, values);
                          }};
  return error_of([&] { check_params("A", std::span(&spec, 1), file); });
}

TEST(ParamSpec, ValuesFollowTheirRule) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::string fine = "nothing was thrown";
  EXPECT_EQ(check(ValueRule::kAny, {kNan}).what(), fine);
  EXPECT_EQ(check(ValueRule::kFinite, {-1, 2}).what(), fine);
  EXPECT_EQ(check(ValueRule::kFinite, {1, kNan}).code(), ErrorCode::kInput);
  EXPECT_EQ(check(ValueRule::kScale, {0, 2}).what(), fine);
  EXPECT_EQ(check(ValueRule::kScale, {1, -2}).code(), ErrorCode::kInput);
  EXPECT_EQ(check(ValueRule::kPositive, {1e-30f, 2}).what(), fine);
  EXPECT_EQ(check(ValueRule::kPositive, {1, 0}).code(), ErrorCode::kInput);
  EXPECT_EQ(check(ValueRule::kZeroPoint, {-128, 127}).what(), fine);
  EXPECT_EQ(check(ValueRule::kZeroPoint, {0, 128}).code(), ErrorCode::kInput);
  EXPECT_EQ(check(ValueRule::kZeroPoint, {-3.7f, 0}).code(), ErrorCode::kInput);
  EXPECT_EQ(check(ValueRule::kZero, {0, -0.0f}).what(), fine);
  EXPECT_EQ(check(ValueRule::kZero, {0, 1}).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(check(ValueRule::kZero, {0, kNan}).code(), ErrorCode::kInput);
}

}  // namespace
}  // namespace mezzotint
