// The e4m3 parts of float_ops.h against numerics/, on every ISA.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/float_ops.h"
#include "kernels/test_data.h"
#include "numerics/e4m3.h"
#include "numerics/fp8_block.h"

namespace mezzotint {
namespace {

class E4M3OpsOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
  const FloatOps& ops() const { return float_ops(GetParam()); }
};

// Every upper half of a float with lower halves around a tie: all ties of e4m3 are among them.
std::vector<float> halves_and_neighbours() {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    for (uint32_t low : {0u, 1u, 0x7fffu, 0xffffu}) {
      x.push_back(std::bit_cast<float>(bits << 16 | low));
    }
  }
  return x;
}

bool same_value(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

TEST_P(E4M3OpsOf, CodesAreThoseOfNumerics) {
  const std::vector<float> x = halves_and_neighbours();
  std::vector<uint8_t> codes(x.size());
  for (const float scale : {1.0f, 0.3f, 0x1p-130f, 1e30f}) {
    ops().e4m3_codes(x.data(), scale, codes.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(codes[i], fp8_block_code(x[i], scale)) << std::hexfloat << x[i] << " / " << scale;
    }
  }
}

TEST_P(E4M3OpsOf, RoundedValuesAreThoseOfNumerics) {
  const std::vector<float> x = halves_and_neighbours();
  for (const float factor : {1.0f, 448.0f}) {
    std::vector<float> y = x;
    ops().round_e4m3(factor, y.data(), static_cast<int64_t>(y.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const float want = e4m3_to_float(e4m3_from_float(x[i] * factor, Rounding::kHalfEven));
      ASSERT_TRUE(same_value(y[i], want)) << std::hexfloat << x[i] << ": " << y[i];
    }
  }
}

TEST_P(E4M3OpsOf, WidensAll256Codes) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  std::vector<float> y(codes.size());
  ops().widen_e4m3(codes.data(), y.data(), 256);
  int checked = 0;
  for (size_t i = 0; i < codes.size(); ++i, ++checked) {
    EXPECT_TRUE(same_value(y[i], e4m3_to_float(codes[i]))) << i;
  }
  EXPECT_EQ(checked, 256);
}

TEST_P(E4M3OpsOf, HandleEveryLengthAndNothingBehindIt) {
  for (int64_t n = 1; n <= 50; ++n) {
    const std::vector<float> x = testing_data::floats(n, 1);
    std::vector<uint8_t> codes(x.size() + 1, 0x55);
    ops().e4m3_codes(x.data(), 0.5f, codes.data(), n);
    EXPECT_EQ(codes.back(), 0x55);
    std::vector<float> wide(x.size() + 1, 77.0f), rounded = x;
    ops().widen_e4m3(codes.data(), wide.data(), n);
    EXPECT_EQ(wide.back(), 77.0f);
    ops().round_e4m3(2.0f, rounded.data(), n);  // x * 2 is x / 0.5
    rounded.push_back(77.0f);
    EXPECT_EQ(wide, rounded) << n;
  }
}

TEST_P(E4M3OpsOf, AmaxFindsTheLargestMagnitudeAnywhere) {
  for (int64_t n = 1; n <= 50; ++n) {
    for (size_t at = 0; at < static_cast<size_t>(n); ++at) {
      std::vector<float> x(static_cast<size_t>(n), -0.5f);
      x[at] = -3.0f;
      ASSERT_EQ(ops().amax(x.data(), n), 3.0f);
      x[at] = -INFINITY;
      ASSERT_EQ(ops().amax(x.data(), n), INFINITY);
      x[at] = NAN;
      ASSERT_TRUE(std::isnan(ops().amax(x.data(), n)));
    }
  }
  EXPECT_EQ(ops().amax(nullptr, 0), 0.0f);
}

// How many elements of y are further from ((x * before) H) * after than two products and log2 n
// additions allow.
int hadamard_faults(const std::vector<float>& x, const std::vector<float>& before,
                    const std::vector<float>& after, const std::vector<float>& y) {
  int faults = 0;
  for (size_t j = 0; j < y.size(); ++j) {
    double sum = 0, magnitude = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      const double term = static_cast<double>(x[i]) * before[i];
      sum += __builtin_parityll(i & j) != 0 ? -term : term;
      magnitude += std::abs(term);
    }
    const double roundings = 2 + std::log2(static_cast<double>(y.size()));
    const double bound = roundings * 0x1p-24 * magnitude * std::abs(after[j]) + 0x1p-149;
    faults += std::abs(y[j] - sum * after[j]) > bound ? 1 : 0;
  }
  return faults;
}

TEST_P(E4M3OpsOf, HadamardIsTheProductWithSylvestersMatrix) {
  for (const int64_t n : {16, 32, 64, 128, 256}) {
    const std::vector<float> x(testing_data::floats(n, 1)), before(static_cast<size_t>(n), -0.5f);
    std::vector<float> after(testing_data::floats(n, 3)), y = x, portable = x;
    for (float& v : after) v = v == 0.0f ? 1.0f : v;
    ops().hadamard(before.data(), after.data(), y.data(), n);
    float_ops(Isa::kPortable).hadamard(before.data(), after.data(), portable.data(), n);
    EXPECT_EQ(y, portable);
    EXPECT_EQ(hadamard_faults(x, before, after, y), 0) << n;
    std::vector<float> other = before;
    other[5] = 0.5f;
    ASSERT_NE(x[5], 0.0f);
    EXPECT_EQ(hadamard_faults(x, other, after, y), n);
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, E4M3OpsOf, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace mezzotint
