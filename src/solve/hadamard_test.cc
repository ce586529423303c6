#include "solve/hadamard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kHeadDims[] = {1, 2, 12, 20, 24, 28, 36, 40, 48, 64, 72, 80, 96, 128};

// The largest |H H^T - n I|.
int largest_fault(const std::vector<int8_t>& h, int64_t n) {
  int fault = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int dot = 0;
      for (int64_t k = 0; k < n; ++k) {
        dot += h[static_cast<size_t>(i * n + k)] * h[static_cast<size_t>(j * n + k)];
      }
      fault = std::max(fault, std::abs(dot - (i == j ? static_cast<int>(n) : 0)));
    }
  }
  return fault;
}

double largest_fault(const std::vector<float>& r, int64_t n) {
  double fault = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double dot = 0;
      for (int64_t k = 0; k < n; ++k) {
        dot += static_cast<double>(r[static_cast<size_t>(i * n + k)]) *
               static_cast<double>(r[static_cast<size_t>(j * n + k)]);
      }
      fault = std::max(fault, std::abs(dot - (i == j ? 1.0 : 0.0)));
    }
  }
  return fault;
}

// BF16 rounds an entry by 2^-8 of itself at most, and so a product of two unit rows by 2^-7.
constexpr double kBf16Fault = 0x1p-7 + 0x1p-16;

std::vector<float> rotation(int64_t n, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(n * n));
  widen_into(make_rotation(n, seed), values);
  return values;
}

TEST(HadamardMatrix, IsSignsWithOrthogonalRows) {
  int found = 0;
  for (int64_t n = 1; n <= 128; ++n) {
    const auto h = hadamard_matrix(n);
    if (!h) continue;
    ++found;
    EXPECT_TRUE(std::ranges::all_of(*h, [](int8_t v) { return v == 1 || v == -1; })) << n;
    EXPECT_EQ(largest_fault(*h, n), 0) << n;
  }
  EXPECT_EQ(found, 2 + 32 - 4);  // orders 1, 2 and the multiples of 4 but four of them
}

TEST(HadamardMatrix, OneWrongSignIsSeen) {
  auto h = *hadamard_matrix(28);
  h[100] = static_cast<int8_t>(-h[100]);
  EXPECT_EQ(largest_fault(h, 28), 2);
}

TEST(HadamardMatrix, OrdersWithoutAConstructionHaveNone) {
  const std::set<int64_t> without = {52, 92, 100, 116};
  for (int64_t n = 4; n <= 128; n += 4) {
    EXPECT_EQ(hadamard_matrix(n).has_value(), !without.contains(n)) << n;
  }
  EXPECT_FALSE(hadamard_matrix(0));
  EXPECT_FALSE(hadamard_matrix(33));
  EXPECT_FALSE(hadamard_matrix(66));
}

TEST(HadamardMatrix, OfAPowerOfTwoIsSylvesters) {
  const auto h = *hadamard_matrix(64);
  for (unsigned i = 0; i < 64; ++i) {
    for (unsigned j = 0; j < 64; ++j) {
      EXPECT_EQ(h[i * 64 + j], __builtin_parity(i & j) != 0 ? -1 : 1);
    }
  }
}

TEST(HadamardFactors, GiveBackEveryRotationOfAPowerOfTwo) {
  for (const int64_t n : {16, 64, 128}) {
    const std::vector<float> r = rotation(n, 1234);
    const auto factors = hadamard_factors(r, n);
    ASSERT_TRUE(factors) << n;
    for (unsigned i = 0; i < n; ++i) {
      for (unsigned j = 0; j < n; ++j) {
        const float h = __builtin_parity(i & j) != 0 ? -1.0f : 1.0f;
        EXPECT_EQ(factors->before[i] * h * factors->after[j], r[i * static_cast<size_t>(n) + j]);
      }
    }
  }
}

TEST(HadamardFactors, KeepSignsOnEitherSide) {
  std::vector<float> r = rotation(32, 1234);
  for (size_t i = 0; i < 32; ++i) r[i * 32 + 5] = -r[i * 32 + 5];
  const auto factors = hadamard_factors(r, 32);
  ASSERT_TRUE(factors);
  EXPECT_EQ(factors->after[5], -factors->after[4]);
}

TEST(HadamardFactors, OneOtherEntryHasNone) {
  for (const size_t at : {0u, 31u, 33u, 1023u}) {
    std::vector<float> r = rotation(32, 1234);
    r[at] *= 1.0f + 0x1p-20f;
    EXPECT_FALSE(hadamard_factors(r, 32)) << at;
    r[at] = -r[at];
    EXPECT_FALSE(hadamard_factors(r, 32)) << at;
  }
  EXPECT_FALSE(hadamard_factors(rotation(96, 1234), 96));  // Paley's
  EXPECT_FALSE(hadamard_factors(rotation(8, 1234), 8));    // shorter than a vector
}

TEST(MakeRotation, IsOrthogonalButForBf16) {
  for (const int64_t n : kHeadDims) EXPECT_LE(largest_fault(rotation(n, 1234), n), kBf16Fault) << n;
  for (const int64_t n : {7, 33, 92, 100}) {  // by QR
    EXPECT_LE(largest_fault(rotation(n, 1234), n), kBf16Fault) << n;
  }
}

TEST(MakeRotation, OneWrongEntryIsSeen) {
  for (const int64_t n : {64, 100, 128}) {
    std::vector<float> r = rotation(n, 1234);
    r[static_cast<size_t>(n + 5)] *= -1;
    EXPECT_GT(largest_fault(r, n), kBf16Fault) << n;
  }
}

TEST(MakeRotation, EntriesOfAHadamardRotationHaveOneMagnitude) {
  for (const float v : rotation(128, 1234)) EXPECT_EQ(std::abs(v), 0.08837890625f);
  for (const float v : rotation(64, 1234)) EXPECT_EQ(std::abs(v), 0.125f);
}

// SplitMix64 from 1234, as the published code gives it: the top bits of bb0cf61b2f181cdb,
// 97c7a1364df06524, 33befae49bc025da, 4e6241f252d0a033 decide the signs of the rows.
TEST(MakeRotation, SignsComeFromTheSeed) {
  const std::vector<float> r = rotation(4, 1234);
  const std::vector<float> expected = {-0.5f, -0.5f, -0.5f, -0.5f,  //
                                       -0.5f, 0.5f,  -0.5f, 0.5f,   //
                                       0.5f,  0.5f,  -0.5f, -0.5f,  //
                                       0.5f,  -0.5f, -0.5f, 0.5f};
  EXPECT_EQ(r, expected);
}

TEST(MakeRotation, IsTheSameEveryTimeAndAnotherForAnotherSeed) {
  for (const int64_t n : {64, 72, 100}) {
    EXPECT_EQ(rotation(n, 1234), rotation(n, 1234));
    EXPECT_NE(rotation(n, 1234), rotation(n, 1235));
  }
}

}  // namespace
}  // namespace mezzotint
