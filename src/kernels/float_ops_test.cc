#include "kernels/float_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/test_data.h"

namespace mezzotint {
namespace {

using testing_data::as_type;
using testing_data::floats;
using testing_data::ulp_of;

constexpr int64_t kLengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 129, 1000};
constexpr double kEps = 0x1p-24;  // half an ulp of 1

class FloatOpsOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
  const FloatOps& ops() const { return float_ops(GetParam()); }
};

// --- functions of one element --------------------------------------------------------------------

// Results below this are compared absolutely: e^x overflows before 1/e^x vanishes.
constexpr double kTiny = 0x1p-119;

double error_in_ulp(float got, double want) {
  const double ulp = std::max<double>(ulp_of(static_cast<float>(want)), kTiny * 0x1p-2);
  return std::fabs(got - want) / ulp;
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu_tanh(double x) {
  // x / (1 + e^-2u) is 0.5 x (1 + tanh u) without the cancellation of the latter.
  return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

using UnaryOp = std::function<void(const float*, float*, int64_t)>;

// gelu_tanh of f32.
UnaryOp gelu_of(const FloatOps& ops) {
  return [&ops](const float* x, float* y, int64_t n) { ops.gelu_tanh(x, y, FloatType::kF32, n); };
}

// Every 271st float of [2^-40, 128], with both signs: 2.9 million values.
std::vector<float> sweep() {
  std::vector<float> values;
  for (uint32_t bits = std::bit_cast<uint32_t>(0x1p-40f); bits <= std::bit_cast<uint32_t>(128.0f);
       bits += 271) {
    values.push_back(std::bit_cast<float>(bits));
    values.push_back(-values.back());
  }
  return values;
}

double worst_error(const UnaryOp& op, double (*exact)(double)) {
  const std::vector<float> x = sweep();
  std::vector<float> y(x.size());
  op(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, error_in_ulp(y[i], exact(x[i])));
  }
  return worst;
}

TEST_P(FloatOpsOf, SiluIsWithinFourUlp) {
  const double worst = worst_error(ops().silu, silu);
  EXPECT_LE(worst, 4);
  EXPECT_GT(worst, 0.25);  // an error of nothing would mean that nothing was compared
}

TEST_P(FloatOpsOf, GeluTanhIsWithinFourUlp) {
  const double worst = worst_error(gelu_of(ops()), gelu_tanh);
  EXPECT_LE(worst, 4);
  EXPECT_GT(worst, 0.25);
}

// Every finite x of 16 bits: the half of an ulp that rounding costs, and not 1/100 more. An ulp of
// a y below `least` is that of it: in f16 the least normal number, in bf16 because of what kTiny
// says.
TEST_P(FloatOpsOf, GeluTanhOfSixteenBitsIsRoundedOnce) {
  for (const FloatType type : {FloatType::kBF16, FloatType::kF16}) {
    std::vector<uint16_t> x;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const auto half = static_cast<uint16_t>(bits);
      if (std::isfinite(load_float(&half, type, 0))) x.push_back(half);
    }
    const int mantissa = type == FloatType::kBF16 ? 7 : 10;
    const double least = type == FloatType::kBF16 ? 0x1p-112 : 0x1p-14;
    std::vector<uint16_t> y(x.size());
    ops().gelu_tanh(x.data(), y.data(), type, static_cast<int64_t>(x.size()));
    double worst = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
      const double exact = gelu_tanh(static_cast<double>(load_float(x.data(), type, i)));
      const double ulp = std::ldexp(1.0, std::ilogb(std::max(std::fabs(exact), least)) - mantissa);
      worst = std::max(worst, std::fabs(load_float(y.data(), type, i) - exact) / ulp);
    }
    EXPECT_LE(worst, 0.51);
    EXPECT_GT(worst, 0.49);
  }
}

// In place, of every length, and nothing behind the end.
TEST_P(FloatOpsOf, GeluTanhOfEveryTypeAndLength) {
  constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};
  for (const int64_t n : kLengths) {
    for (const FloatType type : kTypes) {
      std::vector<std::byte> x = as_type(floats(n, 7), type), one(x.size());
      const auto size = static_cast<size_t>(float_size(type));
      for (size_t i = 0; i < x.size(); i += size) {
        ops().gelu_tanh(&x[i], &one[i], type, 1);
      }
      x.push_back(std::byte{77});
      ops().gelu_tanh(x.data(), x.data(), type, n);
      EXPECT_EQ(x.back(), std::byte{77});
      x.pop_back();
      EXPECT_EQ(x, one) << n;
    }
  }
}

TEST_P(FloatOpsOf, FourUlpHaveTeeth) {
  const float x = -3.0f;
  float y = 0;
  gelu_of(ops())(&x, &y, 1);
  EXPECT_GT(error_in_ulp(y + 5 * ulp_of(y), gelu_tanh(x)), 4);
}

TEST_P(FloatOpsOf, SpecialValuesOfActivations) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0f, inf, std::numeric_limits<float>::quiet_NaN(), 1e30f, -1e30f};
  std::vector<float> y(x.size());
  for (const UnaryOp& op : {UnaryOp(ops().silu), gelu_of(ops())}) {
    op(x.data(), y.data(), static_cast<int64_t>(x.size()));
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], inf);
    EXPECT_TRUE(std::isnan(y[2]));
    EXPECT_EQ(y[3], 1e30f);
    EXPECT_EQ(y[4], 0.0f);
  }
  for (const FloatType type : {FloatType::kBF16, FloatType::kF16}) {
    std::vector<std::byte> halves = as_type({0.0f, inf, x[2], 60000.0f, -60000.0f}, type);
    ops().gelu_tanh(halves.data(), halves.data(), type, 5);
    EXPECT_EQ(load_float(halves.data(), type, 0), 0.0f);
    EXPECT_EQ(load_float(halves.data(), type, 1), inf);
    EXPECT_TRUE(std::isnan(load_float(halves.data(), type, 2)));
    EXPECT_GT(load_float(halves.data(), type, 3), 59000.0f);
    EXPECT_EQ(load_float(halves.data(), type, 4), 0.0f);
  }
}

TEST_P(FloatOpsOf, ExpSumIsWithinTwoUlpAndSums) {
  std::vector<float> x;
  for (uint32_t bits = std::bit_cast<uint32_t>(0x1p-30f); bits < std::bit_cast<uint32_t>(103.0f);
       bits += 1013) {
    x.push_back(-std::bit_cast<float>(bits));
  }
  std::vector<float> e = x;
  const float sum = ops().exp_sum(e.data(), 1.0f, 0.0f, static_cast<int64_t>(e.size()));
  double exact_sum = 0, worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    exact_sum += exact;
    worst = std::max(worst, std::fabs(e[i] - exact) / ulp_of(static_cast<float>(exact)));
  }
  EXPECT_LE(worst, 2);
  EXPECT_NEAR(sum, exact_sum, exact_sum * kEps * (static_cast<double>(x.size()) / 16 + 8));
}

TEST_P(FloatOpsOf, ExpSumAppliesScaleAndShiftAndCountsNoPadding) {
  for (int64_t n : kLengths) {
    std::vector<float> x = floats(n, 5);
    for (float& v : x) v = clamp(v, -8, 8);
    std::vector<float> e = x;
    const float sum = ops().exp_sum(e.data(), 0.5f, 2.0f, n);
    double exact = 0;
    for (float v : x) exact += std::exp(0.5 * v - 2.0);
    EXPECT_NEAR(sum, exact, exact * 1e-6) << n;
  }
}

// --- rows ----------------------------------------------------------------------------------------

double mean_of(const std::vector<float>& x) {
  double sum = 0;
  for (float v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

// Sums of n floats in 16 lanes: n/16 + 4 roundings, relative to the sum of magnitudes.
double sum_error(size_t n) { return (static_cast<double>(n) / 16 + 6) * kEps; }

TEST_P(FloatOpsOf, LayerNormModulateIsWithinItsBound) {
  const double eps = 1e-6;
  for (int64_t n : kLengths) {
    std::vector<float> x = floats(n, 1);
    for (float& v : x) v += 3.0f;
    const std::vector<float> scale = floats(n, 2), shift = floats(n, 3);
    std::vector<float> y(x.size());
    ops().layer_norm_modulate(x.data(), FloatType::kF32, scale.data(), shift.data(), 1e-6f,
                              y.data(), FloatType::kF32, n);
    const double mean = mean_of(x);
    double variance = 0, magnitude = 0;
    for (float v : x) {
      variance += (v - mean) * (v - mean) / static_cast<double>(n);
      magnitude = std::max(magnitude, std::fabs(static_cast<double>(v)));
    }
    const double deviation = std::sqrt(variance + eps);
    // x - mean is off by the error of the mean and one rounding; relative to the deviation it adds
    // to the normal value, whose own factors round five times more.
    const double mean_error = 2 * magnitude * sum_error(x.size()) / deviation;
    for (size_t i = 0; i < x.size(); ++i) {
      const double normal = (x[i] - mean) / deviation;
      const double gain = 1 + static_cast<double>(scale[i]);
      const double bound =
          (mean_error + std::fabs(normal) * (2 * sum_error(x.size()) + 8 * kEps + mean_error)) *
              std::fabs(gain) +
          4 * kEps * (std::fabs(normal) * (1 + std::fabs(scale[i])) + std::fabs(shift[i]));
      ASSERT_NEAR(y[i], normal * gain + shift[i], bound) << n << " " << i;
    }
  }
}

// What rms_norm_rotate makes of F32 x.
std::vector<float> turned(const FloatOps& ops, const std::vector<float>& x,
                          const std::vector<float>& weight, const std::vector<float>& cos,
                          const std::vector<float>& sin) {
  std::vector<float> y(x.size());
  ops.rms_norm_rotate(x.data(),
                      {.weight = weight.data(), .eps = 1e-6f, .cos = cos.data(), .sin = sin.data()},
                      y.data(), FloatType::kF32, static_cast<int64_t>(x.size()));
  return y;
}

constexpr int64_t kHeads[] = {2, 14, 16, 18, 64, 128, 130};

TEST_P(FloatOpsOf, RmsNormIsWithinItsBound) {
  for (int64_t n : kHeads) {
    const std::vector<float> x = floats(n, 1), weight = floats(n, 2);
    const std::vector<float> ones(x.size() / 2, 1.0f), zeros(x.size() / 2);
    const std::vector<float> y = turned(ops(), x, weight, ones, zeros);
    double mean_square = 0;
    for (float v : x) mean_square += static_cast<double>(v) * v / static_cast<double>(n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = x[i] / std::sqrt(mean_square + 1e-6) * weight[i];
      const double relative = sum_error(x.size()) / 2 + 8 * kEps;
      ASSERT_NEAR(y[i], exact, std::fabs(exact) * relative + 1e-44) << n << " " << i;
    }
  }
}

TEST_P(FloatOpsOf, RowBoundsHaveTeeth) {
  std::vector<float> x = floats(64, 1);
  const std::vector<float> weight(64, 1.0f), ones(32, 1.0f), zeros(32);
  const std::vector<float> y = turned(ops(), x, weight, ones, zeros);
  x[7] += 0.01f * std::fabs(x[7]) + 0.01f;
  const std::vector<float> z = turned(ops(), x, weight, ones, zeros);
  EXPECT_GT(std::fabs(z[7] - y[7]), std::fabs(y[7]) * (sum_error(64) + 8 * kEps));
}

TEST_P(FloatOpsOf, RotationTurnsAdjacentPairs) {
  for (int64_t n : kHeads) {
    const std::vector<float> x = floats(n, 1), weight = floats(n, 4);
    const std::vector<float> c = floats(n / 2, 2), s = floats(n / 2, 3);
    const std::vector<float> ones(c.size(), 1.0f), zeros(c.size());
    const std::vector<float> v = turned(ops(), x, weight, ones, zeros);
    const std::vector<float> y = turned(ops(), x, weight, c, s);
    for (size_t i = 0; i < x.size(); i += 2) {
      ASSERT_EQ(y[i], v[i] * c[i / 2] - v[i + 1] * s[i / 2]) << n << " " << i;
      ASSERT_EQ(y[i + 1], v[i + 1] * c[i / 2] + v[i] * s[i / 2]) << n << " " << i;
    }
  }
}

// `values` as `type`, and a byte behind the end that must stay.
std::vector<std::byte> with_end(const std::vector<float>& values, FloatType type) {
  std::vector<std::byte> bytes = as_type(values, type);
  bytes.push_back(std::byte{77});
  return bytes;
}

// Each type of x with each of y: what is read is what widen reads, what is written what narrow
// makes of the result of F32.
TEST_P(FloatOpsOf, LayerNormAndGatedSumsOfEveryTypeAreThoseOfF32RoundedOnce) {
  constexpr FloatType kF32 = FloatType::kF32;
  constexpr FloatType kTypes[] = {kF32, FloatType::kBF16, FloatType::kF16};
  for (int64_t n : kLengths) {
    const std::vector<float> a = floats(n, 2), b = floats(n, 3);
    for (const FloatType x_type : kTypes) {
      for (const FloatType y_type : kTypes) {
        const std::vector<std::byte> x = as_type(floats(n, 1), x_type), y = as_type(b, y_type);
        std::vector<float> x_f32(a.size()), y_f32(a.size()), want(a.size());
        ops().widen(x.data(), x_type, x_f32.data(), n);
        ops().widen(y.data(), y_type, y_f32.data(), n);
        std::vector<std::byte> out = with_end(b, y_type);
        ops().layer_norm_modulate(x.data(), x_type, a.data(), b.data(), 1e-6f, out.data(), y_type,
                                  n);
        ops().layer_norm_modulate(x_f32.data(), kF32, a.data(), b.data(), 1e-6f, want.data(), kF32,
                                  n);
        EXPECT_EQ(out, with_end(want, y_type)) << n;
        out = with_end(b, y_type);
        ops().add_scaled(x.data(), x_type, a.data(), out.data(), out.data(), y_type, n);
        ops().add_scaled(x_f32.data(), kF32, a.data(), y_f32.data(), want.data(), kF32, n);
        EXPECT_EQ(out, with_end(want, y_type)) << n;
      }
    }
  }
}

TEST_P(FloatOpsOf, RotationsOfHalvesAreThoseOfF32RoundedOnce) {
  for (const FloatType type : {FloatType::kBF16, FloatType::kF16}) {
    for (int64_t n : kHeads) {
      const std::vector<float> a = floats(n, 2), b = floats(n, 3);
      const HeadTurn turn = {.weight = a.data(), .eps = 1e-6f, .cos = b.data(), .sin = a.data()};
      std::vector<std::byte> x = with_end(floats(n, 1), type);
      std::vector<float> x_f32(a.size()), want(a.size());
      ops().widen(x.data(), type, x_f32.data(), n);
      ops().rms_norm_rotate(x.data(), turn, x.data(), type, n);
      ops().rms_norm_rotate(x_f32.data(), turn, want.data(), FloatType::kF32, n);
      EXPECT_EQ(x, with_end(want, type)) << n;
    }
  }
}

TEST_P(FloatOpsOf, SimpleOpsRoundEachStepOnce) {
  for (int64_t n : kLengths) {
    const std::vector<float> x = floats(n, 1), gate = floats(n, 2), start = floats(n, 3);
    std::vector<float> y = start, z = start;
    ops().add_scaled(x.data(), FloatType::kF32, gate.data(), y.data(), y.data(), FloatType::kF32,
                     n);
    ops().multiply(0.3f, z.data(), n);
    float largest = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i < x.size(); ++i) {
      volatile float product = gate[i] * x[i];
      ASSERT_EQ(y[i], start[i] + product) << n << " " << i;
      ASSERT_EQ(z[i], start[i] * 0.3f);
      largest = std::max(largest, x[i]);
    }
    EXPECT_EQ(ops().max(x.data(), n), largest);
  }
  EXPECT_EQ(ops().max(nullptr, 0), -std::numeric_limits<float>::infinity());
}

// --- conversions ---------------------------------------------------------------------------------

TEST_P(FloatOpsOf, WidenReadsEveryHalfAsNumericsDoes) {
  std::vector<uint16_t> half(65536);
  for (size_t i = 0; i < half.size(); ++i) half[i] = static_cast<uint16_t>(i);
  std::vector<float> y(half.size());
  for (FloatType type : {FloatType::kBF16, FloatType::kF16}) {
    ops().widen(half.data(), type, y.data(), static_cast<int64_t>(y.size()));
    for (int64_t i = 0; i < 65536; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(y[static_cast<size_t>(i)]),
                std::bit_cast<uint32_t>(load_float(half.data(), type, i)))
          << i;
    }
  }
}

TEST_P(FloatOpsOf, NarrowRoundsAsNumericsDoes) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    for (uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u}) {
      x.push_back(std::bit_cast<float>(bits << 16 | low));
    }
  }
  std::vector<uint16_t> y(x.size());
  for (FloatType type : {FloatType::kBF16, FloatType::kF16}) {
    ops().narrow(x.data(), y.data(), type, static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const uint16_t want = type == FloatType::kBF16 ? bf16_from_float(x[i]) : f16_from_float(x[i]);
      ASSERT_EQ(y[i], want) << std::hexfloat << x[i];
    }
  }
}

TEST_P(FloatOpsOf, ConversionsHandleEveryLength) {
  for (int64_t n : kLengths) {
    const std::vector<float> x = floats(n, 1);
    const std::vector<int8_t> q = testing_data::codes(n, 2);
    std::vector<float> y(x.size() + 1, 77.0f);
    ops().widen_int8(q.data(), y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], static_cast<float>(q[i]));
    for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      const auto bytes = as_type(x, type);
      auto back = bytes;
      ops().widen(bytes.data(), type, y.data(), n);
      ops().narrow(y.data(), back.data(), type, n);
      ASSERT_EQ(back, bytes) << n;
    }
    EXPECT_EQ(y[x.size()], 77.0f);  // nothing behind the end
  }
}

TEST_P(FloatOpsOf, ScaleBiasRoundsAfterEachStep) {
  for (int64_t n : kLengths) {
    const std::vector<float> acc = floats(n, 1), scale = floats(n, 2), bias = floats(n, 3);
    for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      std::vector<std::byte> y(acc.size() * static_cast<size_t>(float_size(type))), want = y;
      ops().scale_bias(acc.data(), scale.data(), bias.data(), y.data(), type, n);
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        volatile float product = acc[at] * scale[at];
        store_float(product + bias[at], want.data(), type, i);
      }
      ASSERT_EQ(y, want) << n;
      ops().scale_bias(acc.data(), nullptr, nullptr, y.data(), type, n);
      ASSERT_EQ(y, as_type(acc, type));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, FloatOpsOf, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

// --- all tables ----------------------------------------------------------------------------------

TEST(FloatOps, EveryIsaGivesTheSameBits) {
  const auto results = [](Isa isa, int64_t n) {
    const FloatOps& ops = float_ops(isa);
    const std::vector<float> x = floats(n, 1), a = floats(n, 2), b = floats(n, 3);
    std::vector<std::vector<float>> out(8, std::vector<float>(x.size()));
    ops.silu(x.data(), out[0].data(), n);
    gelu_of(ops)(x.data(), out[1].data(), n);
    ops.layer_norm_modulate(x.data(), FloatType::kF32, a.data(), b.data(), 1e-6f, out[2].data(),
                            FloatType::kF32, n);
    const HeadTurn turn = {.weight = a.data(), .eps = 1e-6f, .cos = b.data(), .sin = a.data()};
    ops.rms_norm_rotate(x.data(), turn, out[3].data(), FloatType::kF32, n / 2 * 2);
    out[4] = x;
    out[5][0] = ops.exp_sum(out[4].data(), 0.125f, 1.0f, n);
    for (const FloatType type : {FloatType::kBF16, FloatType::kF16}) {
      std::vector<std::byte> halves = as_type(x, type);
      ops.gelu_tanh(halves.data(), halves.data(), type, n);
      std::memcpy(out[type == FloatType::kBF16 ? 6 : 7].data(), halves.data(), halves.size());
    }
    return out;
  };
  for (int64_t n : kLengths) {
    const auto portable = results(Isa::kPortable, n);
    for (Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      if (isa > active_isa()) continue;
      const auto other = results(isa, n);
      for (size_t op = 0; op < portable.size(); ++op) {
        for (size_t i = 0; i < portable[op].size(); ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(portable[op][i]), std::bit_cast<uint32_t>(other[op][i]))
              << isa_name(isa) << " op " << op << " n " << n << " at " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mezzotint
