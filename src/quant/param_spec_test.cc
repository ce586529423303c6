#include "quant/param_spec.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

TEST(ParamSpec, ShapesAreAlternativesOfLettersAndNumbers) {
  const LayerDims dims = {.n = 6, .k = 40};
  EXPECT_TRUE(shape_matches("N,1 | N | 1,N", {6, 1}, dims));
  EXPECT_TRUE(shape_matches("N,1 | N | 1,N", {6}, dims));
  EXPECT_TRUE(shape_matches("N,1 | N | 1,N", {1, 6}, dims));
  EXPECT_FALSE(shape_matches("N,1 | N | 1,N", {6, 2}, dims));
  EXPECT_FALSE(shape_matches("N,1 | N | 1,N", {6, 1, 1}, dims));
  EXPECT_FALSE(shape_matches("N,K", {40, 6}, dims));
  EXPECT_EQ(written_shape("N,1 | N", dims), (Shape{6, 1}));
  EXPECT_EQ(accepted_shapes("N,1 | N", dims), (std::vector<Shape>{{6, 1}, {6}}));
  EXPECT_EQ(expected_shapes("N,1 | N", dims), "[6,1] or [6]");
  EXPECT_EQ(expected_shapes("N,K", {}), "[N,K]");
}

TEST(ParamSpec, UnknownDimensionsTakeAnySizeButNone) {
  EXPECT_TRUE(shape_matches("N,K", {3, 5}, {}));
  EXPECT_FALSE(shape_matches("N,K", {3, 0}, {}));
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
  EXPECT_EQ(check(ValueRule::kZero, {0, -0.0f}).what(), fine);
  EXPECT_EQ(check(ValueRule::kZero, {0, 1}).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(check(ValueRule::kZero, {0, kNan}).code(), ErrorCode::kInput);
}

}  // namespace
}  // namespace mezzotint
