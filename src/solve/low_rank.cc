#include "solve/low_rank.h"

#include <cblas.h>

#include <Eigen/Dense>
#include <algorithm>
#include <random>
#include <span>

#include "base/check.h"
#include "base/parallel_for.h"
#include "solve/outputs.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr uint32_t kSeed = 42;
constexpr int64_t kOversampling = 8;
constexpr int64_t kStepOversampling = 32;  // of alternating steps, whose spectrum decays slowly
constexpr int kIterations = 4;
constexpr int kWarmIterations = 1;  // from the subspace of the step before
constexpr int64_t kRowBlock = 256;  // rows of one product: fixed, whatever the threads are

FloatMatrix floats_of(const Tensor& w) {
  FloatMatrix m(w.dim(0), w.dim(1));
  widen_into(w, {m.data(), static_cast<size_t>(m.size())});
  return m;
}

int as_int(int64_t size) { return static_cast<int>(size); }

// a b by blocks of rows of a.
FloatMatrix product(const FloatMatrix& a, const FloatMatrix& b, const ExecContext& ctx) {
  FloatMatrix c(a.rows(), b.cols());
  const int64_t blocks = (a.rows() + kRowBlock - 1) / kRowBlock;
  parallel_for(ctx, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kRowBlock;
      const int64_t rows = std::min(kRowBlock, a.rows() - first);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(rows), as_int(b.cols()),
                  as_int(a.cols()), 1.0f, a.data() + first * a.cols(), as_int(a.cols()), b.data(),
                  as_int(b.cols()), 0.0f, c.data() + first * c.cols(), as_int(c.cols()));
    }
  });
  return c;
}

// a^T b by blocks of columns of a.
FloatMatrix transposed_product(const FloatMatrix& a, const FloatMatrix& b, const ExecContext& ctx) {
  FloatMatrix c(a.cols(), b.cols());
  const int64_t blocks = (a.cols() + kRowBlock - 1) / kRowBlock;
  parallel_for(ctx, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kRowBlock;
      const int64_t rows = std::min(kRowBlock, a.cols() - first);
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, as_int(rows), as_int(b.cols()),
                  as_int(a.rows()), 1.0f, a.data() + first, as_int(a.cols()), b.data(),
                  as_int(b.cols()), 0.0f, c.data() + first * c.cols(), as_int(c.cols()));
    }
  });
  return c;
}

// An orthonormal basis of the columns.
FloatMatrix orthonormal(const FloatMatrix& m) {
  const Eigen::HouseholderQR<Eigen::MatrixXf> qr(m);
  return qr.householderQ() * Eigen::MatrixXf::Identity(m.rows(), m.cols());
}

FloatMatrix gaussian(int64_t rows, int64_t cols) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  FloatMatrix m(rows, cols);
  std::generate_n(m.data(), m.size(), [&] { return normal(random); });
  return m;
}

// w ~ left right, left:[n,q] with orthonormal columns.
struct Factors {
  FloatMatrix left;
  FloatMatrix right;  // [q,k]
};

Factors leading_subspace(const FloatMatrix& w, const FloatMatrix& start, int iterations,
                         const ExecContext& ctx) {
  FloatMatrix left = orthonormal(product(w, start, ctx));
  for (int i = 0; i < iterations; ++i) {
    const FloatMatrix right = orthonormal(transposed_product(w, left, ctx));
    left = orthonormal(product(w, right, ctx));
  }
  FloatMatrix right = transposed_product(w, left, ctx).transpose();
  return {std::move(left), std::move(right)};
}

Tensor as_bf16(const FloatMatrix& m) {
  Tensor t = Tensor::allocate(DType::kBF16, {m.rows(), m.cols()});
  narrow_range({m.data(), static_cast<size_t>(m.size())}, t, 0);
  return t;
}

// The first `rank` triplets: up = U S, down = V^T.
void truncate(Factors& f, int64_t rank) {
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(f.right.cast<double>(),
                                              Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::MatrixXd scaled =
      svd.matrixU().leftCols(rank) * svd.singularValues().head(rank).asDiagonal();
  f.left = (f.left.cast<double>() * scaled).cast<float>().eval();
  f.right = svd.matrixV().leftCols(rank).transpose().cast<float>();
}

int64_t sketch_width(const Tensor& w, int64_t wanted) {
  return std::min({wanted, w.dim(0), w.dim(1)});
}

// The factors rounded, and what they leave of w.
LowRankSplit split_of(const FloatMatrix& w, const Factors& factors, const ExecContext& ctx) {
  LowRankSplit split = {.down = as_bf16(factors.right),
                        .up = as_bf16(factors.left),
                        .residual = Tensor::allocate(DType::kF32, {w.rows(), w.cols()})};
  const FloatMatrix residual = w - product(floats_of(split.up), floats_of(split.down), ctx);
  std::copy_n(residual.data(), residual.size(), split.residual.mutable_data<float>());
  return split;
}

}  // namespace

LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  MZ_CHECK(rank >= 1 && rank <= std::min(w.dim(0), w.dim(1)));
  const FloatMatrix floats = floats_of(w);
  Factors factors = leading_subspace(
      floats, gaussian(w.dim(1), sketch_width(w, rank + kOversampling)), kIterations, ctx);
  truncate(factors, rank);
  return split_of(floats, factors, ctx);
}

LowRankSplit alternate_low_rank(const Tensor& w, LowRankSplit start,
                                const std::function<Tensor(const Tensor&)>& rounded, int steps,
                                const ExecContext& ctx) {
  const int64_t rank = start.down.dim(0);
  const FloatMatrix floats = floats_of(w);
  LowRankSplit current = start;
  LowRankSplit best = std::move(start);
  Tensor kept = rounded(current.residual);
  double least = squared_distance(current.residual, kept);
  for (int step = 0; step < steps; ++step) {
    FloatMatrix basis = gaussian(w.dim(1), sketch_width(w, rank + kStepOversampling));
    basis.leftCols(rank) = floats_of(current.down).transpose();
    Factors factors = leading_subspace(floats - floats_of(kept), basis, kWarmIterations, ctx);
    truncate(factors, rank);
    current = split_of(floats, factors, ctx);
    kept = rounded(current.residual);
    const double error = squared_distance(current.residual, kept);
    if (!(error < least)) continue;
    least = error;
    best = current;
  }
  return best;
}

}  // namespace mezzotint
