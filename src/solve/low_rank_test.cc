#include "solve/low_rank.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/weight_decode.h"
#include "solve/correlated_data.h"
#include "solve/mx_weights.h"
#include "solve/outputs.h"
#include "solve/panelled_matrix.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

// Rank `rank` with singular values 10, 9, ..., and noise of standard deviation `noise`.
Tensor low_rank_matrix(int64_t n, int64_t k, int64_t rank, float noise) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> u(static_cast<size_t>(n * rank)), v(static_cast<size_t>(rank * k));
  for (float& x : u) x = normal(random) / std::sqrt(static_cast<float>(n));
  for (float& x : v) x = normal(random) / std::sqrt(static_cast<float>(k));
  Tensor w = Tensor::allocate(DType::kF32, {n, k});
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      float sum = noise * normal(random);
      for (int64_t r = 0; r < rank; ++r) {
        sum += static_cast<float>(10 - r) * u[static_cast<size_t>(i * rank + r)] *
               v[static_cast<size_t>(r * k + j)];
      }
      w.mutable_data<float>()[i * k + j] = sum;
    }
  }
  return w;
}

double norm(const Tensor& t) {
  double sum = 0;
  const Tensor wide = widened(t);
  for (int64_t i = 0; i < wide.size(); ++i) {
    sum += static_cast<double>(wide.data<float>()[i]) * wide.data<float>()[i];
  }
  return std::sqrt(sum);
}

// What MXFP4 makes of a matrix.
Tensor mxfp4(const Tensor& w) {
  const ExecContext ctx({.threads = 2});
  const MxWeight mx = quantize_mx_weight(w, Element::kE2M1, MxLevels::kOne, ctx);
  const WeightView view = {.codes = mx.codes.raw(),
                           .element = Element::kE2M1,
                           .n = w.dim(0),
                           .k = w.dim(1),
                           .block_scale = mx.block_scale.data<uint8_t>()};
  Tensor out = Tensor::allocate(DType::kF32, w.shape());
  for (int64_t row = 0; row < view.n; ++row) {
    decode_weights(view, row, 0, view.k, out.mutable_data<float>() + row * view.k);
  }
  return out;
}

ResidualRounding to_mxfp4() { return rounding_to_mx(Element::kE2M1); }

ResidualRounding to_values_of_mxfp4(RoundedBy by) {
  return rounding_to_values(
      by, [](const Tensor& rows, std::span<float> values) { widen_into(mxfp4(rows), values); });
}

double rounding_error(const Tensor& residual) {
  return std::sqrt(squared_distance(residual, mxfp4(residual)));
}

TEST(LowRank, FindsTheMatrixThatIsThere) {
  const Tensor w = low_rank_matrix(70, 130, 5, 0.0f);
  const LowRankSplit split = split_low_rank(w, 5, ExecContext({.threads = 2}));
  EXPECT_LT(norm(split.residual), 0.01 * norm(w));  // bf16 factors: 2^-8 of each
  const LowRankSplit less = split_low_rank(w, 3, ExecContext({.threads = 2}));
  EXPECT_GT(norm(less.residual), 0.1 * norm(w));
}

TEST(LowRank, TakesTheLargestSingularValues) {
  // Noise of 9,100 entries with deviation 0.01 has the norm 0.95; what is left may not be more.
  const Tensor w = low_rank_matrix(70, 130, 5, 0.01f);
  const LowRankSplit split = split_low_rank(w, 5, ExecContext({.threads = 1}));
  EXPECT_LT(norm(split.residual), 0.97);
}

// What the best branch of that rank, unrounded, takes from || w ||^2.
double best_share(const Tensor& w, int64_t rank) {
  const Tensor wide = widened(w);
  using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd m =
      Eigen::Map<const Floats>(wide.data<float>(), w.dim(0), w.dim(1)).cast<double>();
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(m);
  return svd.singularValues().head(rank).squaredNorm() / m.squaredNorm();
}

double share(const Tensor& w, const LowRankSplit& split) {
  const double left = norm(split.residual) / norm(w);
  return 1 - left * left;
}

// Noise: no singular value stands out, the next one is a hundredth smaller. The limit is what four
// steps of subspace iteration reached, of 40 columns and 10 products with w where this takes 6.
TEST(LowRank, TakesNearlyTheMostOfAFlatSpectrum) {
  const Tensor w = low_rank_matrix(320, 864, 1, 0.1f);
  const double best = best_share(w, 32);
  EXPECT_GT(share(w, split_low_rank(w, 32, ExecContext({.threads = 2}))), 0.97 * best);
  // A branch of other directions has nothing of that: of a part of the rows, in place of all.
  const Tensor half(DType::kF32, {160, 864}, w.buffer().slice(0, 160 * 864 * 4));
  const LowRankSplit other = split_low_rank(half, 32, ExecContext({.threads = 2}));
  EXPECT_LT(share(half, other) / 2, 0.9 * best);
}

TEST(LowRank, OfNothingIsNothing) {
  const Tensor w = Tensor::allocate(DType::kF32, {40, 70});
  std::fill_n(w.mutable_data<float>(), w.size(), 0.0f);
  const ExecContext ctx({.threads = 2});
  const LowRankSplit split = alternate_low_rank(w, split_low_rank(w, 4, ctx), to_mxfp4(), 2, ctx);
  EXPECT_EQ(norm(split.up), 0);
  EXPECT_EQ(norm(split.residual), 0);
}

// More columns than the matrix has: the branch is the matrix.
TEST(LowRank, OfTheWholeRankLeavesTheRoundingOfFactors) {
  const Tensor w = low_rank_matrix(24, 40, 24, 0.2f);
  const LowRankSplit split = split_low_rank(w, 24, ExecContext({.threads = 1}));
  EXPECT_LT(norm(split.residual), 0x1p-8 * norm(w));
  EXPECT_GT(norm(split.residual), 0x1p-12 * norm(w)) << "BF16 factors are not exact";
}

// 1000 times the rest, as outlier channels are.
TEST(LowRank, FindsWhatIsBesideALargeDirection) {
  Tensor w = low_rank_matrix(96, 160, 8, 0.0f);
  for (int64_t i = 0; i < 96; ++i) w.mutable_data<float>()[i * 160 + 7] += 1000.0f;
  const LowRankSplit split = split_low_rank(w, 16, ExecContext({.threads = 2}));
  // The large one's own rounding to BF16, 2^-9 of each value at most.
  EXPECT_LT(norm(split.residual), 0x1p-8 * 1000 * std::sqrt(96.0));
  Tensor rest = split.residual;
  for (int64_t i = 0; i < 96; ++i) rest.mutable_data<float>()[i * 160 + 7] = 0;
  EXPECT_LT(norm(rest), 0.1 * norm(low_rank_matrix(96, 160, 8, 0.0f)));
}

TEST(LowRank, PartsAddUpToTheMatrix) {
  const Tensor w = low_rank_matrix(33, 65, 4, 0.3f);
  const LowRankSplit split = split_low_rank(w, 4, ExecContext({.threads = 2}));
  const Tensor up = widened(split.up), down = widened(split.down);
  for (int64_t i = 0; i < 33; ++i) {
    for (int64_t j = 0; j < 65; ++j) {
      double sum = split.residual.data<float>()[i * 65 + j];
      for (int64_t r = 0; r < 4; ++r) {
        sum += static_cast<double>(up.data<float>()[i * 4 + r]) * down.data<float>()[r * 65 + j];
      }
      ASSERT_NEAR(sum, w.data<float>()[i * 65 + j], 1e-5) << i << " " << j;
    }
  }
}

TEST(LowRank, AlternatingStepsNeverLoseAndHelpWhereRoundingIsCoarse) {
  const ExecContext ctx({.threads = 2});
  const Tensor w = low_rank_matrix(96, 160, 24, 0.05f);
  const LowRankSplit once = split_low_rank(w, 8, ctx);
  const LowRankSplit none = alternate_low_rank(w, once, to_mxfp4(), 0, ctx);
  EXPECT_EQ(rounding_error(none.residual), rounding_error(once.residual));
  const LowRankSplit eight = alternate_low_rank(w, once, to_mxfp4(), 8, ctx);
  EXPECT_LT(rounding_error(eight.residual), 0.99 * rounding_error(once.residual));
  EXPECT_LT(rounding_error(once.residual), rounding_error(w));  // rank 0
}

// || x (w - E)^T || / || x w^T || with E the rounded residual and the branch.
double error_of_outputs(const Tensor& x, const Tensor& w, const LowRankSplit& split) {
  const Tensor rounded = mxfp4(split.residual);
  std::vector<float> branch(static_cast<size_t>(w.size()));
  const Tensor up = widened(split.up);
  PanelledMatrix(split.down)
      .add_product(
          up.data<float>(),
          {.rows = w.dim(0), .columns = w.dim(1), .data = branch.data(), .stride = w.dim(1)});
  for (size_t i = 0; i < branch.size(); ++i) branch[i] += rounded.data<float>()[i];
  return output_error(x, w, branch);
}

// The bar of the design, on correlated activations with channels 20 times as large: weights with
// heavy tails and nothing to find, with a low-rank part, and with columns that follow the outliers.
TEST(LowRank, Rank32IsNeverWorseThanRankZero) {
  const ExecContext ctx({.threads = 2});
  constexpr int64_t kN = 96, kK = 256;
  const Tensor x = correlated_rows(
      {.rows = 2048, .k = kK, .hidden = 48, .outlier_every = 37, .outlier = 20.0f}, 2, 3);
  std::vector<Tensor> weights = {low_rank_matrix(kN, kK, 8, 0.1f)};
  for (const uint32_t seed : {1u, 2u, 3u}) weights.push_back(heavy_weights(kN, kK, seed));
  weights.push_back(heavy_weights(kN, kK, 4));
  for (int64_t i = 0; i < kN * kK; i += 37) weights.back().mutable_data<float>()[i] *= 4.0f;
  for (const Tensor& w : weights) {
    const Tensor plain = mxfp4(w);
    const double rank0 =
        output_error(x, w, {plain.data<float>(), plain.data<float>() + plain.size()});
    const LowRankSplit once = split_low_rank(w, 32, ctx);
    EXPECT_LE(error_of_outputs(x, w, once), rank0);
    EXPECT_LE(error_of_outputs(x, w, alternate_low_rank(w, once, to_mxfp4(), 8, ctx)), rank0);
    EXPECT_GT(error_of_outputs(x, w, once), 0.1 * rank0) << "too good to be quantized";
  }
}

// Of the same values, whoever rounds; the sums have another order where parts are not the same.
TEST(LowRank, AlternatingFindsAsMuchByBlocksRowsAndTheWholeTensor) {
  const ExecContext ctx({.threads = 2});
  const Tensor w = low_rank_matrix(200, 160, 24, 0.05f);
  const LowRankSplit once = split_low_rank(w, 8, ctx);
  const auto error = [&](const ResidualRounding& rounding) {
    return rounding_error(alternate_low_rank(w, once, rounding, 3, ctx).residual);
  };
  const double by_block = error(to_mxfp4());
  EXPECT_NEAR(error(to_values_of_mxfp4(RoundedBy::kRow)), by_block, 0.002 * by_block);
  EXPECT_NEAR(error(to_values_of_mxfp4(RoundedBy::kTensor)), by_block, 0.002 * by_block);
  EXPECT_LT(by_block, 0.995 * rounding_error(once.residual));
}

TEST(LowRank, MissesOfARoundingAreWhatItsValuesLeave) {
  const Tensor w = low_rank_matrix(5, 96, 3, 0.1f);
  const Tensor rounded = mxfp4(w);
  const auto by_values = to_values_of_mxfp4(RoundedBy::kRow);
  for (const ResidualRounding& rounding : {to_mxfp4(), by_values}) {
    constexpr int64_t kStride = 100;
    std::vector<float> rows(5 * kStride, 77.0f);
    for (int64_t i = 0; i < 5; ++i) {
      std::copy_n(w.data<float>() + i * 96, 96, rows.data() + i * kStride);
    }
    const double squares =
        rounding.take_misses({.rows = 5, .columns = 96, .data = rows.data(), .stride = kStride});
    EXPECT_NEAR(squares, squared_distance(w, rounded), 1e-6 * squares);
    for (int64_t i = 0; i < 5 * kStride; ++i) {
      const int64_t row = i / kStride, column = i % kStride, at = row * 96 + column;
      const float want = column < 96 ? w.data<float>()[at] - rounded.data<float>()[at] : 77.0f;
      ASSERT_EQ(rows[static_cast<size_t>(i)], want) << row << " " << column;
    }
  }
}

// Eight steps that each begin anew: every step's target is made and split for itself.
double error_of_cold_steps(const Tensor& w, LowRankSplit split, int64_t rank, int steps,
                           const ExecContext& ctx) {
  double least = rounding_error(split.residual);
  for (int step = 0; step < steps; ++step) {
    const Tensor rounded = mxfp4(split.residual);
    Tensor target = Tensor::allocate(DType::kF32, w.shape());
    for (int64_t i = 0; i < w.size(); ++i) {
      target.mutable_data<float>()[i] = w.data<float>()[i] - rounded.data<float>()[i];
    }
    split = split_low_rank(target, rank, ctx);
    // w - up down = (target - up down) + rounded
    for (int64_t i = 0; i < w.size(); ++i) {
      split.residual.mutable_data<float>()[i] += rounded.data<float>()[i];
    }
    least = std::min(least, rounding_error(split.residual));
  }
  return least;
}

// One product there and back from the last step's directions is as good as a space of its own for
// every step: to four digits, 0.0001 of 0.08, where the matrix is large enough that the luck of
// rounding is less (of 320 x 864 it is 0.001 of the error, either way).
TEST(LowRank, WarmStepsMissNoMoreThanStepsThatBeginAnew) {
  const ExecContext ctx({.threads = 2});
  struct Case {
    Tensor w;
    double luck;  // over the error
  };
  for (const auto& [w, luck] : {Case{low_rank_matrix(640, 1728, 1, 0.1f), 0.0006},
                                Case{low_rank_matrix(320, 864, 48, 0.02f), 0.005},
                                Case{heavy_weights(320, 864, 5), 0.005}}) {
    const LowRankSplit once = split_low_rank(w, 32, ctx);
    const double warm = rounding_error(alternate_low_rank(w, once, to_mxfp4(), 8, ctx).residual);
    const double cold = error_of_cold_steps(w, once, 32, 8, ctx);
    EXPECT_LT(warm, (1 + luck) * cold);
    EXPECT_LT(warm, rounding_error(w)) << "rank 0";
    EXPECT_LT(cold, 0.99 * rounding_error(once.residual)) << "eight steps do something";
    const double four = rounding_error(alternate_low_rank(w, once, to_mxfp4(), 4, ctx).residual);
    EXPECT_GT(four, (1 + luck) * cold) << "fewer steps are seen";
  }
}

TEST(LowRank, AlternatingIsTheSameForAnyNumberOfThreads) {
  const Tensor w = low_rank_matrix(600, 300, 12, 0.1f);
  const auto run = [&](int threads) {
    const ExecContext ctx({.threads = threads});
    return alternate_low_rank(w, split_low_rank(w, 6, ctx), to_mxfp4(), 2, ctx);
  };
  const LowRankSplit one = run(1), three = run(3);
  EXPECT_EQ(std::memcmp(one.up.raw(), three.up.raw(), static_cast<size_t>(one.up.byte_size())), 0);
}

TEST(LowRank, IsTheSameForAnyNumberOfThreads) {
  const Tensor w = low_rank_matrix(600, 300, 6, 0.1f);
  const LowRankSplit one = split_low_rank(w, 6, ExecContext({.threads = 1}));
  const LowRankSplit three = split_low_rank(w, 6, ExecContext({.threads = 3}));
  EXPECT_EQ(std::memcmp(one.up.raw(), three.up.raw(), static_cast<size_t>(one.up.byte_size())), 0);
  EXPECT_EQ(std::memcmp(one.residual.raw(), three.residual.raw(),
                        static_cast<size_t>(one.residual.byte_size())),
            0);
}

}  // namespace
}  // namespace mezzotint
