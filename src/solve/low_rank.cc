#include "solve/low_rank.h"

#include <cblas.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/parallel_for.h"
#include "solve/outputs.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using DoubleMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr uint32_t kSeed = 42;
constexpr int64_t kOversampling = 8;
constexpr int64_t kStepOversampling = 32;  // of alternating steps, whose spectrum decays slowly
constexpr int kIterations = 4;
constexpr int kFirstStepIterations = 1;  // later steps go on from the whole subspace of the last
constexpr int64_t kRowBlock = 256;       // rows of one product: fixed, whatever the threads are
constexpr double kLeastPivot = 1e-6;     // of Cholesky factors, over the largest: 1e-12 in the Gram
constexpr double kLeastSingularValue = 1e-7;  // over the largest: less is noise of the Gram

int as_int(int64_t size) { return static_cast<int>(size); }

// w as F32, in place where it is.
Tensor as_floats(const Tensor& w) {
  const bool aligned = reinterpret_cast<uintptr_t>(w.raw()) % alignof(float) == 0;
  return w.dtype() == DType::kF32 && aligned ? w : widened(w);
}

FloatMatrix floats_of(const Tensor& w) {
  FloatMatrix m(w.dim(0), w.dim(1));
  widen_into(w, {m.data(), static_cast<size_t>(m.size())});
  return m;
}

// Calls fn(first, rows) for blocks of [0, n), on the threads of ctx.
template <typename Fn>
void for_each_block(int64_t n, const ExecContext& ctx, const Fn& fn) {
  parallel_for(ctx, (n + kRowBlock - 1) / kRowBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      fn(i * kRowBlock, std::min(kRowBlock, n - i * kRowBlock));
    }
  });
}

// a b, a:[n,k] F32, by blocks of rows of a.
FloatMatrix product(const Tensor& a, const FloatMatrix& b, const ExecContext& ctx) {
  const int64_t k = a.dim(1);
  FloatMatrix c(a.dim(0), b.cols());
  for_each_block(a.dim(0), ctx, [&](int64_t first, int64_t rows) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(rows), as_int(b.cols()),
                as_int(k), 1.0f, a.data<float>() + first * k, as_int(k), b.data(), as_int(b.cols()),
                0.0f, c.data() + first * c.cols(), as_int(c.cols()));
  });
  return c;
}

// a^T b by blocks of columns of a.
FloatMatrix transposed_product(const Tensor& a, const FloatMatrix& b, const ExecContext& ctx) {
  const int64_t k = a.dim(1);
  FloatMatrix c(k, b.cols());
  for_each_block(k, ctx, [&](int64_t first, int64_t columns) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, as_int(columns), as_int(b.cols()),
                as_int(a.dim(0)), 1.0f, a.data<float>() + first, as_int(k), b.data(),
                as_int(b.cols()), 0.0f, c.data() + first * c.cols(), as_int(c.cols()));
  });
  return c;
}

// --- orthonormal bases ---------------------------------------------------------------------------

// m R^-1 with m^T m = R^T R; nothing where m's columns are nearly dependent.
std::optional<DoubleMatrix> cholesky_qr(DoubleMatrix m) {
  const int rows = as_int(m.rows()), columns = as_int(m.cols());
  DoubleMatrix gram(columns, columns);
  cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, columns, rows, 1.0, m.data(), columns, 0.0,
              gram.data(), columns);
  const Eigen::LLT<DoubleMatrix, Eigen::Upper> factor(gram);
  if (factor.info() != Eigen::Success) return std::nullopt;
  const DoubleMatrix r = factor.matrixU();
  if (r.diagonal().minCoeff() < kLeastPivot * r.diagonal().maxCoeff()) return std::nullopt;
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, rows, columns, 1.0,
              r.data(), columns, m.data(), columns);
  return m;
}

// An orthonormal basis of the columns: twice Cholesky QR in double (Yamamoto et al., 2015), where
// that fails Householder QR.
FloatMatrix orthonormal(const FloatMatrix& m) {
  std::optional<DoubleMatrix> q = cholesky_qr(m.cast<double>());
  if (q) q = cholesky_qr(*std::move(q));
  if (q) return q->cast<float>();
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

// --- factors -------------------------------------------------------------------------------------

// w ~ left right^T, left:[n,q] with orthonormal columns, right:[k,q].
struct Subspace {
  FloatMatrix left;
  FloatMatrix right;
};

Subspace leading_subspace(const Tensor& w, const FloatMatrix& start, int iterations,
                          const ExecContext& ctx) {
  FloatMatrix left = orthonormal(product(w, start, ctx));
  for (int i = 0; i < iterations; ++i) {
    const FloatMatrix right = orthonormal(transposed_product(w, left, ctx));
    left = orthonormal(product(w, right, ctx));
  }
  FloatMatrix right = transposed_product(w, left, ctx);
  return {std::move(left), std::move(right)};
}

// As files hold them.
struct Factors {
  Tensor down;  // BF16 [rank,k]
  Tensor up;    // BF16 [n,rank]
};

Tensor as_bf16(const FloatMatrix& m) {
  Tensor t = Tensor::allocate(DType::kBF16, {m.rows(), m.cols()});
  narrow_range({m.data(), static_cast<size_t>(m.size())}, t, 0);
  return t;
}

// The first `rank` triplets of left right^T: up = U S, down = V^T. The singular vectors come from
// the q x q Gram matrix of `right`, in double.
Factors leading_factors(const Subspace& s, int64_t rank) {
  const DoubleMatrix right = s.right.cast<double>();
  const int k = as_int(right.rows()), q = as_int(right.cols());
  DoubleMatrix gram(q, q);
  cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, q, k, 1.0, right.data(), q, 0.0, gram.data(),
              q);
  const Eigen::MatrixXd whole = gram.selfadjointView<Eigen::Upper>();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(whole);
  const Eigen::MatrixXd vectors = solver.eigenvectors().rightCols(rank).rowwise().reverse();
  const Eigen::VectorXd values =
      solver.eigenvalues().tail(rank).reverse().cwiseMax(0.0).cwiseSqrt();
  DoubleMatrix over = vectors;  // columns over their singular value
  for (int64_t i = 0; i < rank; ++i) {
    const bool is_noise = values(i) <= kLeastSingularValue * values(0);
    over.col(i) *= is_noise ? 0.0 : 1.0 / values(i);
  }
  DoubleMatrix down(k, rank);
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, k, as_int(rank), q, 1.0, right.data(), q,
              over.data(), as_int(rank), 0.0, down.data(), as_int(rank));
  const DoubleMatrix scaled = vectors * values.asDiagonal();
  return {.down = as_bf16(down.transpose().cast<float>()),
          .up = as_bf16((s.left.cast<double>() * scaled).cast<float>())};
}

int64_t sketch_width(const Tensor& w, int64_t wanted) {
  return std::min({wanted, w.dim(0), w.dim(1)});
}

// residual = w - up down, of the rounded factors.
void subtract(const Tensor& w, const Factors& factors, const Tensor& residual,
              const ExecContext& ctx) {
  const FloatMatrix up = floats_of(factors.up), down = floats_of(factors.down);
  const int64_t k = w.dim(1), rank = up.cols();
  auto* out = residual.mutable_data<float>();
  for_each_block(w.dim(0), ctx, [&](int64_t first, int64_t rows) {
    std::copy_n(w.data<float>() + first * k, rows * k, out + first * k);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(rows), as_int(k), as_int(rank),
                -1.0f, up.data() + first * rank, as_int(rank), down.data(), as_int(k), 1.0f,
                out + first * k, as_int(k));
  });
}

// out = a - b
void difference(const Tensor& a, const Tensor& b, const Tensor& out, const ExecContext& ctx) {
  const int64_t k = a.dim(1);
  for_each_block(a.dim(0), ctx, [&](int64_t first, int64_t rows) {
    const float* from = a.data<float>() + first * k;
    const float* less = b.data<float>() + first * k;
    float* to = out.mutable_data<float>() + first * k;
    for (int64_t i = 0; i < rows * k; ++i) to[i] = from[i] - less[i];
  });
}

}  // namespace

LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  MZ_CHECK(rank >= 1 && rank <= std::min(w.dim(0), w.dim(1)));
  const Tensor floats = as_floats(w);
  Factors factors = leading_factors(
      leading_subspace(floats, gaussian(w.dim(1), sketch_width(w, rank + kOversampling)),
                       kIterations, ctx),
      rank);
  Tensor residual = Tensor::allocate(DType::kF32, w.shape());
  subtract(floats, factors, residual, ctx);
  return {.down = std::move(factors.down),
          .up = std::move(factors.up),
          .residual = std::move(residual)};
}

LowRankSplit alternate_low_rank(const Tensor& w, LowRankSplit start,
                                const std::function<Tensor(const Tensor&)>& rounded, int steps,
                                const ExecContext& ctx) {
  if (steps == 0) return start;
  const int64_t rank = start.down.dim(0);
  const Tensor floats = as_floats(w);
  Tensor kept = rounded(start.residual);
  double least = squared_distance(start.residual, kept);
  Factors best = {.down = std::move(start.down), .up = std::move(start.up)};
  start.residual = {};  // tensors share their bytes: the steps have their own
  const Tensor residual = Tensor::allocate(DType::kF32, w.shape());
  const Tensor target = Tensor::allocate(DType::kF32, w.shape());
  FloatMatrix basis = gaussian(w.dim(1), sketch_width(w, rank + kStepOversampling));
  basis.leftCols(rank) = floats_of(best.down).transpose();
  for (int step = 0; step < steps; ++step) {
    difference(floats, kept, target, ctx);
    Subspace subspace = leading_subspace(target, basis, step == 0 ? kFirstStepIterations : 0, ctx);
    const Factors factors = leading_factors(subspace, rank);
    basis = orthonormal(subspace.right);
    subtract(floats, factors, residual, ctx);
    kept = rounded(residual);
    const double error = squared_distance(residual, kept);
    if (!(error < least)) continue;
    least = error;
    best = factors;
  }
  subtract(floats, best, residual, ctx);
  return {.down = std::move(best.down), .up = std::move(best.up), .residual = residual};
}

}  // namespace mezzotint
