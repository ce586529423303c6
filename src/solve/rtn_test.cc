#include "solve/rtn.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "solve/widen.h"

namespace mezzotint {
namespace {

struct Result {
  std::vector<int8_t> codes;
  std::vector<float> scale;
  std::optional<int64_t> bad_row;
};

Tensor tensor(DType dtype, const Shape& shape, const std::vector<float>& values) {
  Tensor t = Tensor::allocate(dtype, shape);
  narrow_range(values, t, 0);
  return t;
}

Result round(const Tensor& w, int threads = 2) {
  Result result = {.codes = std::vector<int8_t>(static_cast<size_t>(w.size())),
                   .scale = std::vector<float>(static_cast<size_t>(w.dim(0))),
                   .bad_row = {}};
  result.bad_row =
      round_to_nearest_int8(w, {.codes = result.codes.data(), .scale = result.scale.data()},
                            ExecContext({.threads = threads}));
  return result;
}

// Round to bf16, half to even, by way of the integers and independent of numerics/bf16.h.
float bf16(float value) {
  const double unit = std::exp2(std::floor(std::log2(value)) - 7);
  return static_cast<float>(std::nearbyint(value / unit) * unit);
}

// Amax 2, 3, 0, 3 over 127; ours are rounded to bf16, a row of zeros has 1.
TEST(RoundToNearestInt8, GivesTheScalesOfTheFormat) {
  const Result r = round(tensor(DType::kF32, {4, 2}, {-1, 2, 0.5f, 3, 0, 0, -3, -1}));
  EXPECT_EQ(r.scale, (std::vector<float>{bf16(2 / 127.f), bf16(3 / 127.f), 1.0f, bf16(3 / 127.f)}));
  EXPECT_NEAR(r.scale[0], 0.01574803, 0.01574803 / 256);
  EXPECT_EQ(r.codes[4], 0);
  EXPECT_EQ(r.codes[5], 0);
}

// Scale 1, half to even. Amax 127 gives exactly that scale; codes of weights
// are symmetric, so -128 does not occur.
TEST(RoundToNearestInt8, RoundsHalfToEven) {
  const Result r = round(tensor(DType::kF32, {1, 6}, {2.5f, 3.5f, -2.5f, -127, 127, 0.5f}));
  EXPECT_EQ(r.scale[0], 1.0f);
  EXPECT_EQ(r.codes, (std::vector<int8_t>{2, 4, -2, -127, 127, 0}));
}

// Elements further from their code than rounding explains: half a step, and for the largest codes
// the 2^-8 by which bf16 may round the scale down, 127 * 2^-8 of a step. 2^-18 is for the division.
int64_t misses(const std::vector<float>& w, const Result& r, size_t k) {
  int64_t count = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const int code = r.codes[i];
    const float scale = r.scale[i / k];
    const float steps = (std::abs(code) == 127 ? 0.5f + 127 * 0x1p-8f : 0.5f) + 0x1p-18f * 127;
    if (!(std::abs(w[i] - static_cast<float>(code) * scale) <= steps * scale)) ++count;
  }
  return count;
}

TEST(RoundToNearestInt8, ErrorsStayWithinHalfAStep) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    std::vector<float> values(37 * 111);
    for (float& value : values) value = normal(random) * (random() % 50 == 0 ? 1000.0f : 1.0f);
    const Tensor w = tensor(dtype, {37, 111}, values);
    widen_into(w, values);
    Result r = round(w);
    for (const float scale : r.scale) EXPECT_EQ(bf16(scale), scale);
    EXPECT_EQ(misses(values, r, 111), 0);
    r.codes[500] = static_cast<int8_t>(r.codes[500] + (r.codes[500] > 0 ? -1 : 1));
    EXPECT_EQ(misses(values, r, 111), 1);
    r = round(w);
    r.scale[5] *= 1.02f;
    EXPECT_GT(misses(values, r, 111), 0);
  }
}

TEST(RoundToNearestInt8, GivesTheSameBytesForAnyNumberOfThreads) {
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> values(101 * 65);
  for (float& value : values) value = normal(random);
  const Tensor w = tensor(DType::kF32, {101, 65}, values);
  const Result one = round(w, 1);
  for (const int threads : {2, 5}) {
    EXPECT_EQ(round(w, threads).codes, one.codes);
    EXPECT_EQ(round(w, threads).scale, one.scale);
  }
}

TEST(RoundToNearestInt8, NamesTheFirstRowThatIsNotFinite) {
  std::vector<float> values(64 * 4, 1.0f);
  EXPECT_FALSE(round(tensor(DType::kF32, {64, 4}, values)).bad_row);
  values[50 * 4 + 3] = std::numeric_limits<float>::quiet_NaN();
  values[21 * 4] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(round(tensor(DType::kF32, {64, 4}, values)).bad_row, 21);
}

}  // namespace
}  // namespace mezzotint
