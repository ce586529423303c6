#include "solve/gram.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "solve/widen.h"

namespace mezzotint {
namespace {

Tensor normal_rows(int64_t m, int64_t k) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Tensor t = Tensor::allocate(DType::kF32, {m, k});
  std::generate_n(t.mutable_data<float>(), t.size(), [&] { return normal(random); });
  return t;
}

// Sums of m products in f32: gamma_m = m eps / (1 - m eps) of the sum of magnitudes.
double worst_excess(const Tensor& x, const Tensor& gram) {
  const int64_t m = x.dim(0), k = x.dim(1);
  const float* v = x.data<float>();
  double worst = 0;
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      double sum = 0, magnitude = 0;
      for (int64_t r = 0; r < m; ++r) {
        const double product = double{v[r * k + i]} * double{v[r * k + j]};
        sum += product;
        magnitude += std::abs(product);
      }
      const double bound = static_cast<double>(m) * 0x1p-23 * magnitude;
      worst = std::max(worst, std::abs(gram.data<float>()[i * k + j] - sum) / bound);
    }
  }
  return worst;
}

TEST(Gram, IsTheSumOfProductsForSizesOffTheTiles) {
  const ExecContext ctx({.threads = 2});
  for (const int64_t k : {1, 31, 257}) {
    const Tensor x = normal_rows(53, k);
    const Tensor gram = gram_of(x, ctx);
    EXPECT_LE(worst_excess(x, gram), 1.0) << k;
    gram.mutable_data<float>()[k * k - 1] *= 1.001f;  // the bound has teeth
    EXPECT_GT(worst_excess(x, gram), 1.0) << k;
  }
}

TEST(Gram, HasTheSameBitsForAnyNumberOfThreads) {
  const Tensor x = normal_rows(1500, 300);  // two panels
  const Tensor one = gram_of(x, ExecContext({.threads = 1}));
  const Tensor four = gram_of(x, ExecContext({.threads = 4}));
  EXPECT_TRUE(std::ranges::equal(one.buffer().bytes(), four.buffer().bytes()));
}

}  // namespace
}  // namespace mezzotint
