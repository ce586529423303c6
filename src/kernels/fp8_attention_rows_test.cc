// Every row of the op on codes, against double and a bound derived from eps, sums and ties.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/attention_op.h"
#include "kernels/fp8_attention_row_bound.h"
#include "kernels/registry.h"
#include "numerics/e4m3.h"

namespace mezzotint {
namespace {

using namespace fp8_attention_row;  // NOLINT(google-build-using-namespace): this file is about it

Codes random_codes(int64_t rows, int64_t dim, int64_t block, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 100.0f);
  std::uniform_real_distribution<float> uniform(0.003f, 0.012f);
  Codes c;
  for (int64_t i = 0; i < rows * dim; ++i) {
    c.codes.push_back(e4m3_from_float(normal(rng), Rounding::kHalfEven));
  }
  for (int64_t i = 0; i < rows; i += block) c.scale.push_back(uniform(rng));
  return c;
}

Problem make_problem(int64_t q_rows, int64_t keys, int64_t dim, float p_scale) {
  return {random_codes(q_rows, dim, kQueryBlock, 1),
          random_codes(keys, dim, kKeyBlock, 2),
          random_codes(keys, dim, kKeyBlock, 3),
          q_rows,
          keys,
          dim,
          1.0f / std::sqrt(static_cast<float>(dim)),
          p_scale};
}

class Fp8AttentionRow : public testing::TestWithParam<size_t> {
 protected:
  const AttentionKernel& row() const { return attention_kernels()[GetParam()]; }
  void SetUp() override {
    if (row().isa > active_isa()) GTEST_SKIP() << "needs " << isa_name(row().isa);
  }
};

TEST_P(Fp8AttentionRow, AgreesWithDoubleWithinItsBound) {
  for (const int64_t dim : {1, 33, 64, 72, 96, 128}) {
    for (const int64_t keys : {1, 255, 256, 257, 600}) {
      for (const float p_scale : {1.0f, 448.0f}) {
        const Problem p = make_problem(keys == 257 ? 128 : 5, keys, dim, p_scale);
        const Comparison c = compare(p, run(row(), p));
        EXPECT_EQ(c.fault, std::nullopt) << "dim " << dim << ", keys " << keys;
        EXPECT_LT(c.mean_bound, 4e-3) << "the bound says nothing";
      }
    }
  }
}

TEST_P(Fp8AttentionRow, TheBoundSeesOneWrongScaleOrCode) {
  const Problem p = make_problem(5, 300, 64, 1.0f);
  for (Codes Problem::* const codes : {&Problem::q, &Problem::k, &Problem::v}) {
    Problem changed = p;
    (changed.*codes).scale.back() *= 1.5f;
    EXPECT_NE(compare(p, run(row(), changed)).fault, std::nullopt);
  }
  Problem changed = p;
  changed.v.codes[5] ^= 0x80;  // one sign of the 300 values of a column
  EXPECT_NE(compare(p, run(row(), changed)).fault, std::nullopt);
}

TEST_P(Fp8AttentionRow, NumeratorsAreRoundedToE4M3) {
  // Without that rounding a result is closer to exact softmax than any e4m3 is.
  const Problem p = make_problem(5, 300, 64, 1.0f);
  const std::vector<float> out = run(row(), p);
  double square_error = 0, square = 0;
  for (int64_t i = 0; i < p.q_rows; ++i) {
    double l = 0, m = -INFINITY;
    std::vector<double> exact(64, 0.0), scores;
    for (int64_t j = 0; j < p.keys; ++j) scores.push_back(score_of(p, i, j).value);
    for (const double s : scores) m = std::max(m, s);
    for (int64_t j = 0; j < p.keys; ++j) {
      const double e = std::exp(scores[static_cast<size_t>(j)] - m);
      l += e;
      for (int64_t d = 0; d < 64; ++d) {
        exact[static_cast<size_t>(d)] += e * p.v.value(j, d, p.dim, kKeyBlock);
      }
    }
    for (size_t d = 0; d < 64; ++d) {
      const double error = out[static_cast<size_t>(i) * 64 + d] - exact[d] / l;
      square_error += error * error;
      square += exact[d] / l * (exact[d] / l);
    }
  }
  const double relative = std::sqrt(square_error / square);
  EXPECT_GT(relative, 0.003);
  EXPECT_LT(relative, 0.04);
}

TEST_P(Fp8AttentionRow, NoKeysGiveZeros) {
  Problem p = make_problem(3, 1, 16, 1.0f);
  p.keys = 0;
  EXPECT_EQ(run(row(), p), std::vector<float>(3 * 16, 0.0f));
}

TEST_P(Fp8AttentionRow, AScaleOfNaNGivesNaN) {
  for (Codes Problem::* const codes : {&Problem::q, &Problem::k, &Problem::v}) {
    Problem p = make_problem(2, 300, 16, 1.0f);
    (p.*codes).scale.back() = NAN;
    for (const float v : run(row(), p)) EXPECT_TRUE(std::isnan(v));
  }
}

TEST_P(Fp8AttentionRow, AScaleOfZeroStandsForZeros) {
  Problem p = make_problem(2, 300, 16, 1.0f);
  p.v.scale = {0.0f, 0.0f};
  EXPECT_EQ(run(row(), p), std::vector<float>(2 * 16, 0.0f));
}

INSTANTIATE_TEST_SUITE_P(Rows, Fp8AttentionRow,
                         testing::Range(size_t{0}, attention_kernels().size()),
                         [](const auto& info) {
                           std::string name(attention_kernels()[info.param].name);
                           return name.substr(name.find('/') + 1);
                         });

TEST(Fp8AttentionRows, TheFirstRowTheProcessorHasIsChosen) {
  const auto name = [](AttentionForm form, FloatType type, Isa isa) {
    return choose_attention_kernel(form, type, isa).name;
  };
  for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
    EXPECT_EQ(name(AttentionForm::kFp8, type, Isa::kAvx512Bf16), "attention/avx512_bf16");
    EXPECT_EQ(name(AttentionForm::kFp8, type, Isa::kAvx512Vnni), "attention/avx512");
    EXPECT_EQ(name(AttentionForm::kFloat, type, Isa::kAvx2), "attention/avx2");
    EXPECT_EQ(name(AttentionForm::kFloat, type, Isa::kPortable), "attention/portable");
  }
  // The numerators and operands of that row are bf16: not for f32 q, k and v.
  EXPECT_EQ(name(AttentionForm::kFloat, FloatType::kBF16, Isa::kAvx512Bf16),
            "attention/avx512_bf16");
  EXPECT_EQ(name(AttentionForm::kFloat, FloatType::kF32, Isa::kAvx512Bf16), "attention/avx512");
  EXPECT_EQ(attention_kernels().back().name, "attention/reference");
  EXPECT_EQ(attention_kernels().back().isa, Isa::kPortable);
}

TEST(Fp8AttentionRows, NamesAreUniqueAmongAllRows) {
  std::set<std::string_view> names;
  for (const LinearKernel& row : linear_kernels()) names.insert(row.name);
  for (const AttentionKernel& row : attention_kernels()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
  }
}

}  // namespace
}  // namespace mezzotint
