#include "kernels/mx_misses.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/test_data.h"
#include "kernels/weight_decode.h"
#include "kernels/weight_ops.h"
#include "numerics/mx.h"

namespace mezzotint {
namespace {

using testing_data::floats;

class TakeMxMissesOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
  double take(std::vector<float>& w, Element element) const {
    return take_mx_misses(GetParam())(w.data(), element, static_cast<int64_t>(w.size()));
  }
};

// w less the values of its codes.
std::vector<float> misses_of_codes(const std::vector<float>& w, Element element) {
  const auto n = static_cast<int64_t>(w.size());
  std::vector<uint8_t> codes(w.size()), scales(static_cast<size_t>(mx_blocks(n)));
  weight_ops(Isa::kPortable).mx_codes(w.data(), element, 1.0f, codes.data(), scales.data(), n);
  std::vector<float> misses(w.size());
  decode_mx_bytes(codes.data(), element, scales.data(), nullptr, n, misses.data());
  for (size_t i = 0; i < w.size(); ++i) misses[i] = w[i] - misses[i];
  return misses;
}

bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a + 0.0f) == std::bit_cast<uint32_t>(b + 0.0f);  // -0 is 0
}

// Ties, zeros, a block of zeros, outliers, denormal and large numbers; whole blocks and odd tails.
TEST_P(TakeMxMissesOf, AreWhatTheValuesOfCodesLeave) {
  int checked = 0;
  for (const Element element : {Element::kE2M1, Element::kE4M3}) {
    for (const int64_t n : {1, 15, 16, 17, 31, 32, 33, 64, 129, 1000}) {
      for (const float factor : {1.0f, 3e-39f, 1e33f}) {
        std::vector<float> w = floats(n, static_cast<uint32_t>(n));
        for (size_t i = 0; i < w.size(); ++i) {
          if (i % 7 == 3) w[i] = 0.25f * static_cast<float>(i % 5) - 0.5f;  // ties of many scales
          if (i % 97 == 41) w[i] *= 1000.0f;
          if (i / 32 == 2) w[i] = 0.0f;
          w[i] *= factor;
        }
        const std::vector<float> want = misses_of_codes(w, element);
        const double error = weight_ops(Isa::kPortable).mx_error(w.data(), element, 1.0f, n);
        std::vector<float> got = w;
        EXPECT_EQ(take(got, element), error);
        for (size_t i = 0; i < w.size(); ++i) {
          ASSERT_TRUE(std::isfinite(want[i]));
          ASSERT_TRUE(same_bits(got[i], want[i]))
              << w[i] << " leaves " << got[i] << ", not " << want[i] << " at " << i << " of " << n;
        }
        ++checked;
      }
    }
  }
  EXPECT_EQ(checked, 60);
}

TEST_P(TakeMxMissesOf, AddUpToTheirSquares) {
  std::vector<float> w = floats(4096, 5);
  const double squares = take(w, Element::kE2M1);
  double sum = 0;
  for (const float miss : w) sum += double{miss} * miss;
  EXPECT_NEAR(squares, sum, 1e-6 * sum);
  EXPECT_GT(sum, 0);
}

TEST_P(TakeMxMissesOf, ABlockThatIsNotFiniteBecomesNaN) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> w = floats(96, 5);
    w[40] = bad;
    EXPECT_TRUE(std::isnan(take(w, Element::kE4M3)));
    for (size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(std::isnan(w[i]), i / 32 == 1) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, TakeMxMissesOf,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512Bf16),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace mezzotint
