#include "solve/gptq.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "format/expect_error.h"
#include "kernels/weight_decode.h"
#include "solve/correlated_data.h"
#include "solve/gram.h"
#include "solve/mx_weights.h"
#include "solve/rtn.h"

namespace mezzotint {
namespace {

constexpr int64_t kN = 96;
constexpr int64_t kK = 256;
constexpr int64_t kTokens = 2048;
constexpr int64_t kGroup = 64;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// A layer, the activations it is solved for, and others of the same kind that judge it.
struct Problem {
  Tensor w = heavy_weights(kN, kK, 1);
  Tensor x, judge, gram;

  explicit Problem(int64_t tokens = kTokens) {
    const ActivationShape shape = {.rows = tokens, .k = kK, .hidden = 48};
    x = correlated_rows(shape, 2, 3);
    judge = correlated_rows({.rows = 256, .k = kK, .hidden = 48}, 2, 4);
    gram = gram_of(x, context());
  }
};

const Problem& problem() {
  static const Problem p;
  return p;
}

// Rounded to nearest: codes and the grid they lie on.
struct Rounded {
  Tensor codes, scale, block_scale, dual_scale;
  WeightView view;
};

Rounded nearest(const Tensor& w, Element element) {
  Rounded r;
  r.view = {.element = element, .n = w.dim(0), .k = w.dim(1)};
  if (element == Element::kE2M1 || element == Element::kE4M3) {
    MxWeight mx = quantize_mx_weight(w, element, MxLevels::kOne, context());
    r.codes = mx.codes;
    r.block_scale = mx.block_scale;
    r.view.block_scale = reinterpret_cast<const uint8_t*>(r.block_scale.raw());
  } else {
    const int64_t groups = element == Element::kInt4 ? w.dim(1) / kGroup : 0;
    IntegerWeight rtn = round_to_nearest(w, element, {.groups = groups}, context());
    r.codes = rtn.codes;
    r.scale = rtn.scale;
    r.view.group = groups == 0 ? 0 : kGroup;
    r.view.scale = r.scale.data<float>();
  }
  r.view.codes = r.codes.raw();
  return r;
}

std::vector<float> decoded(WeightView view, const Tensor& codes) {
  view.codes = codes.raw();
  std::vector<float> out(static_cast<size_t>(view.n * view.k));
  for (int64_t row = 0; row < view.n; ++row) {
    decode_weights(view, row, 0, view.k, out.data() + row * view.k);
  }
  return out;
}

// The textbook algorithm, in double, with an inverse and a second factorization.
std::vector<float> textbook(const Problem& p, const Rounded& rtn, double damping) {
  using Matrix = Eigen::MatrixXd;
  Matrix h(kK, kK);
  for (int64_t i = 0; i < kK * kK; ++i) h(i / kK, i % kK) = p.gram.data<float>()[i];
  h.diagonal().array() += damping * h.diagonal().mean();
  const Matrix inverse = h.llt().solve(Matrix::Identity(kK, kK));
  const Matrix u = Matrix(inverse.llt().matrixU());
  std::vector<float> q(static_cast<size_t>(kN * kK));
  for (int64_t row = 0; row < kN; ++row) {
    std::vector<double> w(p.w.data<float>() + row * kK, p.w.data<float>() + (row + 1) * kK);
    for (int64_t k = 0; k < kK; ++k) {
      const double scale = rtn.scale.data<float>()[row * (kK / kGroup) + k / kGroup];
      const double code = std::clamp(std::nearbyint(w[static_cast<size_t>(k)] / scale), -7.0, 7.0);
      q[static_cast<size_t>(row * kK + k)] = static_cast<float>(code * scale);
      const double error = (w[static_cast<size_t>(k)] - code * scale) / u(k, k);
      for (int64_t j = k + 1; j < kK; ++j) w[static_cast<size_t>(j)] -= error * u(k, j);
    }
  }
  return q;
}

TEST(Gptq, AgreesWithTheTextbookAlgorithm) {
  const Problem& p = problem();
  const Rounded rtn = nearest(p.w, Element::kInt4);
  const GptqFactor factor = factor_gram(p.gram, {.rows = kTokens});
  EXPECT_EQ(factor.damping, 0.01);
  const std::vector<float> ours = decoded(rtn.view, gptq_codes(p.w, rtn.view, factor, context()));
  const std::vector<float> theirs = textbook(p, rtn, 0.01);
  int64_t differ = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    differ += std::abs(ours[i] - theirs[i]) > 1e-6f ? 1 : 0;
  }
  // Ties fall differently in f32, and what follows them in the row with them.
  EXPECT_LT(differ, kN * kK / 20);
  EXPECT_NEAR(output_error(p.judge, p.w, ours), output_error(p.judge, p.w, theirs),
              2e-3 * output_error(p.judge, p.w, theirs));
}

// The bar of the design: at most 0.65 of the error of rounding to nearest, on data not seen.
TEST(Gptq, HalvesTheErrorOnEveryGrid) {
  const Problem& p = problem();
  const GptqFactor factor = factor_gram(p.gram, {.rows = kTokens});
  for (const Element element : {Element::kInt4, Element::kInt8, Element::kE2M1, Element::kE4M3}) {
    const Rounded rtn = nearest(p.w, element);
    const Tensor codes = gptq_codes(p.w, rtn.view, factor, context());
    EXPECT_EQ(codes.dtype(), rtn.codes.dtype());
    EXPECT_EQ(codes.shape(), rtn.codes.shape());
    const double before = output_error(p.judge, p.w, decoded(rtn.view, rtn.codes));
    const double after = output_error(p.judge, p.w, decoded(rtn.view, codes));
    EXPECT_LT(after, 0.65 * before) << static_cast<int>(element);
    EXPECT_GT(after, 0.2 * before) << "too good to be quantized";
    EXPECT_FALSE(std::ranges::equal(codes.buffer().bytes(), rtn.codes.buffer().bytes()));
  }
}

TEST(Gptq, EnergyOrderKeepsTheGroupsScales) {
  const Problem& p = problem();
  const Rounded rtn = nearest(p.w, Element::kInt4);
  const GptqFactor factor = factor_gram(p.gram, {.rows = kTokens, .order = ColumnOrder::kByEnergy});
  std::vector<int64_t> sorted = factor.order;
  std::ranges::sort(sorted);
  for (int64_t i = 0; i < kK; ++i) ASSERT_EQ(sorted[static_cast<size_t>(i)], i);
  const auto energy = [&](size_t i) { return p.gram.data<float>()[factor.order[i] * (kK + 1)]; };
  for (size_t i = 1; i < kK; ++i) ASSERT_GE(energy(i - 1), energy(i));
  const std::vector<float> q = decoded(rtn.view, gptq_codes(p.w, rtn.view, factor, context()));
  EXPECT_LT(output_error(p.judge, p.w, q),
            0.65 * output_error(p.judge, p.w, decoded(rtn.view, rtn.codes)));
}

TEST(Gptq, GivesTheSameCodesForAnyNumberOfThreads) {
  const Problem& p = problem();
  const Tensor w = heavy_weights(300, kK, 9);  // three tasks
  const Rounded rtn = nearest(w, Element::kInt4);
  const GptqFactor factor = factor_gram(p.gram, {.rows = kTokens});
  const Tensor one = gptq_codes(w, rtn.view, factor, ExecContext({.threads = 1}));
  const Tensor four = gptq_codes(w, rtn.view, factor, ExecContext({.threads = 4}));
  EXPECT_TRUE(std::ranges::equal(one.buffer().bytes(), four.buffer().bytes()));
}

TEST(Gptq, DampsMoreWithFewRows) {
  EXPECT_EQ(gptq_damping(4 * kK, kK), 0.01);
  EXPECT_EQ(gptq_damping(2 * kK, kK), 0.05);
  EXPECT_EQ(gptq_damping(kK, kK), 0.1);
}

TEST(Gptq, DeadChannelsAreRoundedToNearest) {
  Problem p;
  for (int64_t row = 0; row < kTokens; ++row) p.x.mutable_data<float>()[row * kK + 5] = 0;
  p.gram = gram_of(p.x, context());
  const Rounded rtn = nearest(p.w, Element::kInt4);
  const GptqFactor factor = factor_gram(p.gram, {.rows = kTokens});
  EXPECT_FALSE(factor.diagonal_only);
  const std::vector<float> ours = decoded(rtn.view, gptq_codes(p.w, rtn.view, factor, context()));
  const std::vector<float> plain = decoded(rtn.view, rtn.codes);
  for (size_t row = 0; row < kN; ++row) EXPECT_EQ(ours[row * kK + 5], plain[row * kK + 5]);
}

TEST(Gptq, AnInputOfZerosRoundsToNearest) {
  Tensor gram = Tensor::copy_of<float>(std::vector<float>(kK * kK, 0.0f), {kK, kK});
  const Rounded rtn = nearest(problem().w, Element::kInt4);
  const GptqFactor factor = factor_gram(gram, {.rows = kTokens});
  const Tensor codes = gptq_codes(problem().w, rtn.view, factor, context());
  EXPECT_TRUE(std::ranges::equal(codes.buffer().bytes(), rtn.codes.buffer().bytes()));
}

// Not the Gram matrix of anything: an off-diagonal value above the diagonal's.
TEST(Gptq, AMatrixThatIsNotPositiveIsDampedOrLeftOut) {
  std::vector<float> values(16, 0.0f);
  for (size_t i = 0; i < 4; ++i) values[i * 5] = 1.0f;
  values[1] = values[4] = 1.05f;
  const GptqFactor damped = factor_gram(Tensor::copy_of<float>(values, {4, 4}), {.rows = 100});
  EXPECT_EQ(damped.damping, 0.1);  // 0.01 is not enough
  values[1] = values[4] = 100.0f;
  const GptqFactor none = factor_gram(Tensor::copy_of<float>(values, {4, 4}), {.rows = 100});
  EXPECT_TRUE(none.diagonal_only);
}

TEST(Gptq, RefusesValuesThatAreNotFinite) {
  std::vector<float> values(16, 0.0f);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorCode::kInput, {"Gram matrix", "channel 1"},
               [&] { factor_gram(Tensor::copy_of<float>(values, {4, 4}), {.rows = 100}); });
}

}  // namespace
}  // namespace mezzotint
