#include "kernels/weight_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/ops.h"
#include "kernels/test_data.h"
#include "numerics/affine.h"
#include "numerics/bf16.h"
#include "numerics/dual_level.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/mx.h"

namespace mezzotint {
namespace {

using testing_data::floats;

constexpr int64_t kLengths[] = {1, 15, 16, 17, 31, 32, 33, 64, 129, 1000};
constexpr std::array kMxElements = {Element::kE2M1, Element::kE4M3};

class WeightOpsOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
  const WeightOps& ops() const { return weight_ops(GetParam()); }

  std::vector<int8_t> integers(const std::vector<float>& w, const IntegerGrid& grid) const {
    std::vector<int8_t> codes(w.size(), 99);
    ops().integer_codes(w.data(), grid, codes.data(), static_cast<int64_t>(w.size()));
    return codes;
  }
};

TEST_P(WeightOpsOf, IntegerCodesAreThoseOfNumerics) {
  const AffineParams affine8 = affine_params(-2.0f, 3.0f, 8, false);
  const AffineParams affine4 = affine_params(-2.0f, 3.0f, 4, false);
  for (const int64_t n : kLengths) {
    std::vector<float> w = floats(n, 3);
    w[0] = 2.5f * 0.02f;  // a tie
    const std::vector<int8_t> int8 =
        integers(w, {.scale = 0.02f, .low = -kInt8Max, .high = kInt8Max});
    const std::vector<int8_t> int4 =
        integers(w, {.scale = 0.3f, .low = -kInt4Max, .high = kInt4Max});
    const std::vector<int8_t> offset8 = integers(
        w, {.scale = affine8.scale, .zero = affine8.offset, .low = -128.0f, .high = 127.0f});
    const std::vector<int8_t> offset4 =
        integers(w, {.scale = affine4.scale, .zero = affine4.offset, .low = -8.0f, .high = 7.0f});
    for (size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(int8[i], int8_code(w[i], 0.02f)) << w[i];
      ASSERT_EQ(int4[i], int4_code(w[i], 0.3f)) << w[i];
      ASSERT_EQ(offset8[i], affine_code(w[i], affine8, 8)) << w[i];
      ASSERT_EQ(offset4[i], affine_code(w[i], affine4, 4)) << w[i];
    }
  }
}

// Every tie of a grid and the two floats on either side of it: what a product by the reciprocal
// rounds to the wrong side.
TEST_P(WeightOpsOf, IntegerCodesBesideTiesAreThoseOfNumerics) {
  int by_product = 0;
  for (const float scale : {0.02f, 0.3f, 1.7e-5f, 3.3e7f, 0x1p-110f, 0x1p110f}) {
    for (const float zero : {0.0f, -37.0f, 128.0f}) {
      std::vector<float> w;
      for (int i = -260; i <= 260; ++i) {
        float value = (static_cast<float>(i) + 0.5f - zero) * scale;
        for (int j = 0; j < 2; ++j) value = std::nextafter(value, -1e38f);
        for (int j = 0; j < 5; ++j) {
          w.push_back(value);
          value = std::nextafter(value, 1e38f);
        }
      }
      const std::vector<int8_t> codes =
          integers(w, {.scale = scale, .zero = zero, .low = -128.0f, .high = 127.0f});
      for (size_t i = 0; i < w.size(); ++i) {
        const float exact = round_half_even(w[i] / scale + zero);
        ASSERT_EQ(codes[i], static_cast<int>(clamp(exact, -128.0f, 127.0f))) << w[i] << " " << zero;
        by_product += round_half_even(w[i] * (1.0f / scale) + zero) == exact ? 0 : 1;
      }
    }
  }
  EXPECT_GT(by_product, 100) << "the data does not tell a product from a quotient";
}

struct MxRow {
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scale;

  bool operator==(const MxRow&) const = default;
};

MxRow mx_row(const WeightOps& ops, const std::vector<float>& w, Element element, float outer) {
  const auto n = static_cast<int64_t>(w.size());
  MxRow row = {std::vector<uint8_t>(w.size(), 99),
               std::vector<uint8_t>(static_cast<size_t>(mx_blocks(n)), 99)};
  ops.mx_codes(w.data(), element, outer, row.codes.data(), row.scale.data(), n);
  return row;
}

// What codes under this scale miss of w / outer, in double.
double missed(const float* w, int64_t count, float outer, Element element, uint8_t byte) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float t = dual_inner(w[i], outer);
    const double miss =
        double{t} - mx_value(mx_code(t, byte, element, Rounding::kHalfEven), byte, element);
    sum += miss * miss;
  }
  return sum;
}

float amax_of(const float* w, int64_t count, float outer) {
  float amax = 0;
  for (int64_t i = 0; i < count; ++i) amax = std::max(amax, absolute(dual_inner(w[i], outer)));
  return amax;
}

// Codes that are not those of numerics under the block's scale.
int wrong_codes(const MxRow& row, const std::vector<float>& w, Element element, float outer) {
  int wrong = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const uint8_t byte = row.scale[i / kMxBlock];
    wrong += row.codes[i] == mx_code(dual_inner(w[i], outer), byte, element, Rounding::kHalfEven)
                 ? 0
                 : 1;
  }
  return wrong;
}

// The values of floats() and a row of small ones: whole blocks of denormals.
std::vector<float> weights(int64_t n) {
  std::vector<float> w = floats(n, 5);
  if (n > 200) {
    for (size_t i = 32; i < 64; ++i) w[i] *= 1e-44f;
    for (size_t i = 64; i < 96; ++i) w[i] *= 1e35f;
  }
  return w;
}

TEST_P(WeightOpsOf, MxCodesAreThoseOfNumericsUnderTheBestOfThreeScales) {
  constexpr double kFloatSums = 1 + 0x1p-20;  // 32 squares added in float
  int moved = 0;
  for (const Element element : kMxElements) {
    for (const auto& [n, outer] : {std::tuple{int64_t{31}, 1.0f}, std::tuple{int64_t{1000}, 1.0f},
                                   std::tuple{int64_t{512}, 0.7f}}) {
      const std::vector<float> w = weights(n);
      MxRow row = mx_row(ops(), w, element, outer);
      EXPECT_EQ(wrong_codes(row, w, element, outer), 0);
      for (int64_t k = 0; k < n; k += kMxBlock) {
        const int64_t count = std::min(kMxBlock, n - k);
        const float amax = amax_of(w.data() + k, count, outer);
        const uint8_t byte = row.scale[static_cast<size_t>(k / kMxBlock)];
        const int floor_byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, 0);
        ASSERT_LE(std::abs(byte - floor_byte), 1);
        moved += byte == floor_byte ? 0 : 1;
        const double ours = missed(w.data() + k, count, outer, element, byte);
        for (const int other : {floor_byte - 1, floor_byte, floor_byte + 1}) {
          if (other < 0 || other > kE8M0Max) continue;
          EXPECT_LE(ours, kFloatSums * missed(w.data() + k, count, outer, element,
                                              static_cast<uint8_t>(other)))
              << k << " " << other;
        }
      }
      row.codes[7] = static_cast<uint8_t>(row.codes[7] ^ 1u);
      EXPECT_EQ(wrong_codes(row, w, element, outer), 1);
    }
  }
  EXPECT_GT(moved, 10);
}

// The exponents of a search that tries all three scales, by sums of floats in the order of
// sum_lanes.
uint8_t best_of_three(const float* w, Element element) {
  const int floor_byte = mx_scale_byte(amax_of(w, kMxBlock, 1.0f), element, MxScaleRule::kFloor, 0);
  const float unit = e8m0_to_float(static_cast<uint8_t>(floor_byte));
  const auto misses = [&](int other) {
    const auto byte = static_cast<uint8_t>(other);
    const auto square = [&](int64_t i) {
      const float value =
          mx_value(mx_code(w[i], byte, element, Rounding::kHalfEven), byte, element);
      const float miss = absolute(value) / unit - absolute(w[i]) / unit;
      return miss * miss;
    };
    float sums[16];
    for (int64_t i = 0; i < 16; ++i) sums[i] = square(i) + square(i + 16);
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    return sums[0];
  };
  int best = floor_byte;
  for (const int other : {floor_byte - 1, floor_byte + 1}) {
    if (misses(other) < misses(best)) best = other;
  }
  return static_cast<uint8_t>(best);
}

// Blocks of every spread, so that each neighbour wins often, ties among them.
TEST_P(WeightOpsOf, MxExponentsAreThoseOfASearchThatTriesAllThree) {
  constexpr int kBlocks = 4000;
  for (const Element element : kMxElements) {
    std::vector<float> w = floats(kBlocks * kMxBlock, 21);
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t block = i / kMxBlock;
      w[i] *= 0.01f * static_cast<float>(1 + block % 7);
      if (block % 3 == 1) w[i] = round_half_even(w[i] * 64) / 64;
      if (block % 3 == 2 && i % 32 != 0) w[i] *= std::ldexp(1.0f, -static_cast<int>(block % 16));
      if (block % 11 == 3) {  // 4, 4.04, ... beside quarters that half the scale of e2m1 has
        w[i] = i % 32 == 0 ? 4.0f + 0.04f * static_cast<float>(block % 23)
                           : 0.25f + 0.5f * static_cast<float>(i % 2) + w[i] * 0x1p-10f;
      }
    }
    const MxRow row = mx_row(ops(), w, element, 1.0f);
    int lower = 0, higher = 0;
    for (int64_t b = 0; b < kBlocks; ++b) {
      const float* block = w.data() + b * kMxBlock;
      const float amax = amax_of(block, kMxBlock, 1.0f);
      if (amax == 0.0f) continue;
      const int floor_byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, 0);
      const int byte = row.scale[static_cast<size_t>(b)];
      ASSERT_EQ(byte, best_of_three(block, element)) << b;
      lower += byte < floor_byte ? 1 : 0;
      higher += byte > floor_byte ? 1 : 0;
    }
    EXPECT_GT(higher, 100);
    EXPECT_GT(lower, element == Element::kE2M1 ? 100 : -1);
  }
}

TEST_P(WeightOpsOf, MxErrorIsWhatTheCodesMiss) {
  for (const Element element : kMxElements) {
    std::vector<float> w = floats(1000, 9);
    for (float& v : w) v = std::clamp(v, -4.0f, 4.0f);  // outliers would hide the rest of the sum
    const MxRow row = mx_row(ops(), w, element, 0.3f);
    double sum = 0;
    for (size_t k = 0; k < w.size(); k += kMxBlock) {
      sum += missed(w.data() + k, std::min<int64_t>(kMxBlock, 1000 - static_cast<int64_t>(k)), 0.3f,
                    element, row.scale[k / kMxBlock]);
    }
    EXPECT_NEAR(ops().mx_error(w.data(), element, 0.3f, 1000), sum, 1e-6 * sum);
    w[17] += 1.0f;
    EXPECT_GT(std::abs(ops().mx_error(w.data(), element, 0.3f, 1000) - sum), 1e-6 * sum);
  }
}

TEST_P(WeightOpsOf, ABlockOfZerosHasByteZeroAndCodesZero) {
  for (const Element element : kMxElements) {
    std::vector<float> w(70, 0.0f);
    w[3] = -0.0f;
    w[40] = 1.0f;
    const MxRow row = mx_row(ops(), w, element, 1.0f);
    EXPECT_EQ(row.scale[0], 0);
    EXPECT_GT(row.scale[1], 0);
    EXPECT_EQ(row.scale[2], 0);
    EXPECT_EQ(std::ranges::count(row.codes, uint8_t{0}), 69);
    EXPECT_EQ(ops().mx_error(w.data(), element, 1.0f, 32), 0);
  }
}

TEST_P(WeightOpsOf, ABlockThatIsNotFiniteHasTheByteOfNanAndCodesZero) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Element element : kMxElements) {
    for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
      for (const size_t at : {size_t{32}, size_t{63}, size_t{69}}) {
        std::vector<float> w(70, 1.0f);
        w[at] = bad;
        const MxRow row = mx_row(ops(), w, element, 1.0f);
        for (size_t block = 0; block < 3; ++block) {
          EXPECT_EQ(row.scale[block] == kE8M0NaN, block == at / kMxBlock) << at;
        }
        EXPECT_EQ(std::ranges::count(row.codes, uint8_t{0}), at < 64 ? 32 : 6);
        EXPECT_TRUE(std::isfinite(ops().mx_error(w.data(), element, 1.0f, 70)));
      }
    }
  }
}

PairSums sums_of(const WeightOps& ops, const std::vector<float>& x, const std::vector<float>& y) {
  PairSums sums;
  ops.add_pairs(x.data(), y.data(), static_cast<int64_t>(x.size()), sums);
  return sums;
}

TEST_P(WeightOpsOf, PairSumsAreThoseOfAPlainLoop) {
  for (const int64_t n : kLengths) {
    const std::vector<float> x = floats(n, 3);
    std::vector<float> y = floats(n, 4);
    PairSums plain;
    for (size_t i = 0; i < x.size(); ++i) {
      const double a = x[i], b = y[i], miss = x[i] - y[i];
      plain.exact += a * a;
      plain.decoded += b * b;
      plain.product += a * b;
      plain.noise += miss * miss;
      plain.amax = std::max(plain.amax, std::abs(x[i]));
      plain.zeros += y[i] == 0.0f ? 1 : 0;
    }
    const PairSums sums = sums_of(ops(), x, y);
    const double bound = static_cast<double>(n) * 0x1p-52;
    EXPECT_NEAR(sums.exact, plain.exact, bound * plain.exact);
    EXPECT_NEAR(sums.decoded, plain.decoded, bound * plain.decoded);
    EXPECT_NEAR(sums.product, plain.product, bound * (plain.exact + plain.decoded));
    EXPECT_NEAR(sums.noise, plain.noise, bound * plain.noise);
    EXPECT_EQ(sums.amax, plain.amax);
    EXPECT_EQ(sums.zeros, plain.zeros);
    y.back() = 2 * y.back() + 1;
    EXPECT_GT(std::abs(sums_of(ops(), x, y).decoded - plain.decoded), bound * plain.decoded);
  }
}

TEST_P(WeightOpsOf, PairSumsAddToWhatIsThere) {
  const std::vector<float> x = {3, -4}, y = {1, -4};
  PairSums sums = sums_of(ops(), x, y);
  ops().add_pairs(y.data(), y.data(), 1, sums);
  EXPECT_EQ(sums.exact, 26);
  EXPECT_EQ(sums.decoded, 18);
  EXPECT_EQ(sums.product, 20);
  EXPECT_EQ(sums.noise, 4);
  EXPECT_EQ(sums.amax, 4);
  EXPECT_EQ(sums_of(ops(), {}, {}).exact, 0);
}

TEST_P(WeightOpsOf, CountsWhatLiesOutsideOfARangeAndNotItsEnds) {
  for (const int64_t n : kLengths) {
    std::vector<float> x(static_cast<size_t>(n), 0.5f);
    const auto outside = [&](float low, float high) {
      return ops().count_outside(x.data(), &low, &high, n, n);
    };
    EXPECT_EQ(outside(0.5f, 0.5f), 0) << n;
    EXPECT_EQ(outside(0.6f, 1.0f), n) << n;
    EXPECT_EQ(outside(-1.0f, 0.4f), n) << n;
    x.front() = -2.0f;
    x.back() = 3.0f;
    EXPECT_EQ(outside(0.0f, 1.0f), n == 1 ? 1 : 2) << n;
    x.back() = -0.0f;
    EXPECT_EQ(outside(0.0f, 1.0f), n == 1 ? 0 : 1) << "-0 is 0";
  }
  const std::vector<float> x(100, 0.5f), low = {0, 0.6f, 0, 0}, high = {1, 1, 0.4f, 1};
  EXPECT_EQ(ops().count_outside(x.data(), low.data(), high.data(), 32, 100), 64);
  EXPECT_EQ(ops().count_outside(x.data(), low.data(), high.data(), 45, 100), 45 + 10);
}

TEST_P(WeightOpsOf, AmaxIsThatOfTheValuesAndNanWhereThereIsOne) {
  for (const int64_t n : kLengths) {
    std::vector<float> w = floats(n, 5);
    float most = 0;
    for (const float v : w) most = std::max(most, std::abs(v));
    EXPECT_EQ(ops().amax(w.data(), FloatType::kF32, n), most);
    std::vector<uint16_t> half;
    for (const float v : w) half.push_back(bf16_from_float(v));
    EXPECT_EQ(ops().amax(half.data(), FloatType::kBF16, n), bf16_to_float(bf16_from_float(most)));
    w.back() = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(ops().amax(w.data(), FloatType::kF32, n))) << n;
    half.front() = 0x7f80;
    EXPECT_TRUE(std::isinf(ops().amax(half.data(), FloatType::kBF16, n))) << n;
  }
}

TEST_P(WeightOpsOf, GivesTheBitsOfThePortableTable) {
  const std::vector<float> w = weights(1000);
  const WeightOps& portable = weight_ops(Isa::kPortable);
  for (const Element element : kMxElements) {
    EXPECT_EQ(mx_row(ops(), w, element, 0.9f), mx_row(portable, w, element, 0.9f));
    EXPECT_EQ(ops().mx_error(w.data(), element, 0.9f, 1000),
              portable.mx_error(w.data(), element, 0.9f, 1000));
  }
  const std::vector<float> other = floats(1000, 6);
  const PairSums ours = sums_of(ops(), w, other), theirs = sums_of(portable, w, other);
  EXPECT_EQ(ours.exact, theirs.exact);
  EXPECT_EQ(ours.decoded, theirs.decoded);
  EXPECT_EQ(ours.product, theirs.product);
  EXPECT_EQ(ours.noise, theirs.noise);
}

INSTANTIATE_TEST_SUITE_P(Isa, WeightOpsOf,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace mezzotint
