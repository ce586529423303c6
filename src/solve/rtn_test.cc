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
};

Tensor tensor(DType dtype, const Shape& shape, const std::vector<float>& values) {
  Tensor t = Tensor::allocate(dtype, shape);
  narrow_range(values, t, 0);
  return t;
}

template <typename T>
std::vector<T> values_of(const Tensor& t) {
  return {t.data<T>(), t.data<T>() + t.size()};
}

Result round(const Tensor& w, int threads = 2) {
  const IntegerWeight rounded =
      round_to_nearest(w, Element::kInt8, {}, ExecContext({.threads = threads}));
  return {values_of<int8_t>(rounded.codes), values_of<float>(rounded.scale)};
}

// Nibbles of one row as signed codes.
std::vector<int> int4_row(const Tensor& codes, int64_t row, int64_t k) {
  std::vector<int> values;
  for (int64_t i = 0; i < k; ++i) {
    const int byte = codes.data<uint8_t>()[row * codes.dim(1) + i / 2];
    const int nibble = i % 2 == 0 ? byte % 16 : byte / 16;
    values.push_back(nibble < 8 ? nibble : nibble - 16);
  }
  return values;
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

TEST(RoundToNearestInt8, OneScaleForTheTensorIsThatOfItsLargestValue) {
  const Tensor w = tensor(DType::kF32, {2, 2}, {-1, 2, 0.5f, 127});
  const IntegerWeight r = round_to_nearest(w, Element::kInt8, {Granularity::kPerTensor, 0},
                                           ExecContext({.threads = 2}));
  EXPECT_EQ(values_of<float>(r.scale), (std::vector<float>{1, 1}));
  EXPECT_EQ(values_of<int8_t>(r.codes), (std::vector<int8_t>{-1, 2, 0, 127}));
}

TEST(RoundToNearestInt4, RowsAndGroupsHaveTheirOwnScales) {
  const Tensor w = tensor(DType::kF32, {1, 6}, {7, -3.5f, 2.5f, 14, -14, 1});
  const ExecContext ctx({.threads = 2});
  const IntegerWeight row = round_to_nearest(w, Element::kInt4, {}, ctx);
  EXPECT_EQ(values_of<float>(row.scale), std::vector<float>{2});
  EXPECT_EQ(int4_row(row.codes, 0, 6), (std::vector<int>{4, -2, 1, 7, -7, 0}));  // 3.5, -1.75, 1.25
  const IntegerWeight groups =
      round_to_nearest(w, Element::kInt4, {Granularity::kPerChannel, 2}, ctx);
  EXPECT_EQ(groups.scale.shape(), (Shape{1, 2}));
  EXPECT_EQ(values_of<float>(groups.scale), (std::vector<float>{1, 2}));
  EXPECT_EQ(int4_row(groups.codes, 0, 6), (std::vector<int>{7, -4, 2, 7, -7, 0}));
}

TEST(RoundToNearestInt4, AnOddKLeavesTheLastNibbleZero) {
  const Tensor w = tensor(DType::kF32, {2, 3}, {7, -7, 1, 7, 1, -1});
  const IntegerWeight r = round_to_nearest(w, Element::kInt4, {}, ExecContext({.threads = 1}));
  EXPECT_EQ(values_of<uint8_t>(r.codes), (std::vector<uint8_t>{0x97, 0x01, 0x17, 0x0f}));
}

TEST(FirstRowNotFinite, IsTheFirst) {
  const ExecContext ctx({.threads = 2});
  std::vector<float> values(64 * 4, 1.0f);
  EXPECT_FALSE(first_row_not_finite(tensor(DType::kF32, {64, 4}, values), ctx));
  values[50 * 4 + 3] = std::numeric_limits<float>::quiet_NaN();
  values[21 * 4] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_row_not_finite(tensor(DType::kF32, {64, 4}, values), ctx), 21);
}

}  // namespace
}  // namespace mezzotint
