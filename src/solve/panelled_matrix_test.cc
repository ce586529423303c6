#include "solve/panelled_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr double kEps = 0x1p-24;  // half an ulp of 1

std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

// One product of `columns` columns from `column` on, of m:[r,k] BF16; how many elements are wrong:
// |got - want| > (r + 2) eps (|c| + sum |a m|), and what the product has no business with.
int64_t wrong_elements(int64_t r, int64_t k, int64_t column, int64_t columns, float corruption) {
  constexpr int64_t kRows = 7, kGap = 3;
  Tensor m = Tensor::allocate(DType::kBF16, {r, k});
  narrow_range(random_floats(r * k, 1), m, 0);
  const Tensor wide = widened(m);
  const std::vector<float> a = random_floats(kRows * r, 2);
  const int64_t stride = columns + kGap;
  const std::vector<float> c = random_floats(kRows * stride, 3);
  std::vector<float> got = c;
  PanelledMatrix(m).add_product(
      a.data(),
      {.rows = kRows, .column = column, .columns = columns, .data = got.data(), .stride = stride});
  got[static_cast<size_t>(stride)] += corruption;
  int64_t wrong = 0;
  for (int64_t i = 0; i < kRows * stride; ++i) {
    const int64_t row = i / stride, j = i % stride;
    double want = c[static_cast<size_t>(i)], magnitude = std::fabs(want);
    for (int64_t s = 0; j < columns && s < r; ++s) {
      const double term =
          double{a[static_cast<size_t>(row * r + s)]} * wide.data<float>()[s * k + column + j];
      want += term;
      magnitude += std::fabs(term);
    }
    const double bound = j < columns ? static_cast<double>(r + 2) * kEps * magnitude : 0;
    if (!(std::fabs(got[static_cast<size_t>(i)] - want) <= bound)) ++wrong;
  }
  return wrong;
}

TEST(PanelledMatrix, AddsTheProductOfAnyColumns) {
  int checked = 0;
  for (const int64_t r : {1, 5, 32}) {
    for (const int64_t k : {1, 15, 16, 33, 100}) {
      for (int64_t column = 0; column < k; column += 16) {
        for (const int64_t columns : {int64_t{1}, k - column}) {
          ASSERT_EQ(wrong_elements(r, k, column, columns, 0), 0) << r << " " << k << " " << column;
          ++checked;
        }
      }
    }
  }
  EXPECT_EQ(checked, 78);
}

TEST(PanelledMatrix, CheckSeesALastPlace) { EXPECT_EQ(wrong_elements(5, 33, 16, 17, 1e-4f), 1); }

}  // namespace
}  // namespace mezzotint
