#include "solve/low_rank.h"

#include <cblas.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/mx_misses.h"
#include "solve/outputs.h"
#include "solve/panelled_matrix.h"
#include "solve/sketch.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr uint32_t kSeed = 42;
constexpr int64_t kColumns = 16;  // of a sketch: a multiple, what a register holds
// Of the Krylov space, each half as wide as the branch. Of the same products with w narrow blocks
// get more than wide ones (640 x 1728, noise, rank 32: 0.946 of the best sum of squares, 3 blocks
// of 32 columns 0.918; four steps of subspace iteration with 40 columns, twice the work, 0.937).
constexpr int kBlocks = 6;
constexpr double kLeastPivot = 1e-6;  // of Cholesky factors, over the largest: 1e-12 in the Gram
constexpr double kLeastPart = 1e-7;  // eigenvalue of a scaled Gram, over the largest: less is noise
constexpr double kLeastSingularValue = 1e-7;  // over the largest: the same

int as_int(int64_t size) { return static_cast<int>(size); }

// --- small matrices ------------------------------------------------------------------------------

DoubleMatrix times(const DoubleMatrix& a, const DoubleMatrix& b) {
  DoubleMatrix c(a.rows(), b.cols());
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(a.rows()), as_int(b.cols()),
              as_int(a.cols()), 1.0, a.data(), as_int(a.cols()), b.data(), as_int(b.cols()), 0.0,
              c.data(), as_int(c.cols()));
  return c;
}

// a^T b
DoubleMatrix transposed_times(const DoubleMatrix& a, const DoubleMatrix& b) {
  DoubleMatrix c(a.cols(), b.cols());
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, as_int(a.cols()), as_int(b.cols()),
              as_int(a.rows()), 1.0, a.data(), as_int(a.cols()), b.data(), as_int(b.cols()), 0.0,
              c.data(), as_int(c.cols()));
  return c;
}

// [a b]
DoubleMatrix beside(const DoubleMatrix& a, const DoubleMatrix& b) {
  if (a.cols() == 0) return b;
  DoubleMatrix both(a.rows(), a.cols() + b.cols());
  both << a, b;
  return both;
}

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

// An orthonormal basis of the columns: twice Cholesky QR (Yamamoto et al., 2015), where that fails
// Householder QR.
DoubleMatrix orthonormal(const DoubleMatrix& m) {
  std::optional<DoubleMatrix> q = cholesky_qr(m);
  if (q) q = cholesky_qr(*std::move(q));
  if (q) return *std::move(q);
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(m);
  return qr.householderQ() * Eigen::MatrixXd::Identity(m.rows(), m.cols());
}

DoubleMatrix gaussian(int64_t rows, int64_t cols) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  DoubleMatrix m(rows, cols);
  std::generate_n(m.data(), m.size(), [&] { return double{normal(random)}; });
  return m;
}

// --- subspaces -----------------------------------------------------------------------------------

// `left` spans a part of the columns of t:[n,k], right = t^T left.
struct Subspace {
  DoubleMatrix left;   // [n,m]
  DoubleMatrix right;  // [k,m]
};

int64_t sketch_width(int64_t wanted, int64_t n, int64_t k) {
  const int64_t columns = (wanted + kColumns - 1) / kColumns * kColumns;
  return std::min({columns, n, k});
}

int64_t block_width(int64_t rank, int64_t n, int64_t k) {
  return sketch_width((rank + 1) / 2, n, k);
}

// What t, t t^T t, ... make of x:[k,l]: `blocks` of them, fewer where they fill the space.
Subspace krylov_space(const RowSource& t, DoubleMatrix x, int blocks, const ExecContext& ctx) {
  Subspace space;
  DoubleMatrix basis = x;  // orthonormal
  for (int block = 0;; ++block) {
    const Sketch s = sketch_of(t, x.cast<float>(), FloatMatrix::Zero(t.n, x.cols()), ctx);
    space.left = beside(space.left, s.left.cast<double>());
    space.right = beside(space.right, s.right);
    const bool is_whole = space.left.cols() >= std::min(t.n, t.k);
    if (block + 1 == blocks || is_whole) return space;
    const DoubleMatrix known = times(basis, transposed_times(basis, s.right));
    x = orthonormal(s.right - known);
    basis = beside(basis, x);
  }
}

// --- factors -------------------------------------------------------------------------------------

Tensor as_bf16(const FloatMatrix& m) {
  Tensor t = Tensor::allocate(DType::kBF16, {m.rows(), m.cols()});
  narrow_range({m.data(), static_cast<size_t>(m.size())}, t, 0);
  return t;
}

// Coefficients that make orthonormal columns of m's, those that are noise left out:
// (m c)^T (m c) = 1.
DoubleMatrix orthonormal_coefficients(const DoubleMatrix& m) {
  const DoubleMatrix gram = transposed_times(m, m);
  // Columns of one length: how much they depend on each other is all that is left.
  const Eigen::VectorXd lengths = gram.diagonal().cwiseSqrt();
  const Eigen::VectorXd over = (lengths.array() > 0).select(lengths.cwiseInverse(), 0.0);
  const Eigen::MatrixXd scaled = over.asDiagonal() * gram * over.asDiagonal();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(scaled);
  const Eigen::VectorXd& parts = solver.eigenvalues();  // in rising order
  const double least = kLeastPart * std::max(parts(parts.size() - 1), 0.0);
  const int64_t kept = (parts.array() > least).count();
  const Eigen::VectorXd roots = parts.tail(kept).cwiseSqrt().cwiseInverse();
  return over.asDiagonal() * solver.eigenvectors().rightCols(kept) * roots.asDiagonal();
}

// The first `rank` singular triplets of t within the subspace: up = U S, down = V^T; zeros where
// there are fewer.
LowRankFactors leading_factors(const Subspace& space, int64_t rank) {
  const DoubleMatrix basis = orthonormal_coefficients(space.left);
  const DoubleMatrix gram = transposed_times(space.right, space.right);
  const Eigen::MatrixXd projected = basis.transpose() * gram * basis;
  DoubleMatrix to_up = DoubleMatrix::Zero(space.left.cols(), rank), to_down = to_up;
  if (projected.size() > 0) {
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(projected);
    const int64_t last = projected.cols() - 1;
    const double most = std::sqrt(std::max(solver.eigenvalues()(last), 0.0));
    for (int64_t i = 0; i < std::min(rank, last + 1); ++i) {
      const double value = std::sqrt(std::max(solver.eigenvalues()(last - i), 0.0));
      if (value <= kLeastSingularValue * most) break;
      const Eigen::VectorXd column = basis * solver.eigenvectors().col(last - i);
      to_up.col(i) = column * value;
      to_down.col(i) = column / value;
    }
  }
  return {.down = as_bf16(times(space.right, to_down).transpose().cast<float>()),
          .up = as_bf16(times(space.left, to_up).cast<float>())};
}

FloatMatrix widened_matrix(const Tensor& t) {
  FloatMatrix m(t.dim(0), t.dim(1));
  widen_into(t, {m.data(), static_cast<size_t>(m.size())});
  return m;
}

void widen_part(const Tensor& w, const RowTile& part) {
  const int64_t k = w.dim(1);
  for (int64_t i = 0; i < part.rows; ++i) {
    widen_range(w, (part.first + i) * k + part.column,
                {part.data + i * part.stride, static_cast<size_t>(part.columns)});
  }
}

Tensor residual_of(const Tensor& w, const LowRankFactors& factors, const ExecContext& ctx) {
  Tensor residual = Tensor::allocate(DType::kF32, w.shape());
  LowRankResidual(w, factors).rows(0, residual, ctx);
  return residual;
}

LowRankSplit split_of(const Tensor& w, LowRankFactors factors, const ExecContext& ctx) {
  Tensor residual = residual_of(w, factors, ctx);
  return {.down = std::move(factors.down),
          .up = std::move(factors.up),
          .residual = std::move(residual)};
}

// --- alternating steps ---------------------------------------------------------------------------

// What rounding misses of w - up down.
class RoundingMisses {
 public:
  RoundingMisses(const Tensor& w, const ResidualRounding& rounding)
      : w_(w),
        rounding_(rounding),
        source_({.n = w.dim(0), .k = w.dim(1), .fill = [this](const RowTile& t) { fill(t); }}) {
    if (rounding.by != RoundedBy::kBlock) source_.columns_at_once = source_.k;
    if (rounding.by == RoundedBy::kTensor) source_.rows_at_once = source_.n;
  }
  RoundingMisses(const RoundingMisses&) = delete;
  RoundingMisses& operator=(const RoundingMisses&) = delete;

  const RowSource& beside(const LowRankFactors& factors) {
    residual_.emplace(w_, factors);
    squares_.assign(static_cast<size_t>(source_.tiles()), 0.0);
    return source_;
  }

  // Their squares, after every row has been asked for.
  double sum() const {
    double sum = 0;
    for (const double of_tile : squares_) sum += of_tile;
    return sum;
  }

 private:
  void fill(const RowTile& part) {
    residual_->fill(part);
    squares_[static_cast<size_t>(part.first / source_.rows_at_once)] += rounding_.take_misses(part);
  }

  const Tensor& w_;
  const ResidualRounding& rounding_;
  RowSource source_;
  std::optional<LowRankResidual> residual_;
  std::vector<double> squares_;  // of every tile
};

// Of t = w - rounded = up down + misses, which is never made: of each of its parts alone.
Subspace step_space(const RowSource& misses, const LowRankFactors& factors, const DoubleMatrix& x,
                    const ExecContext& ctx) {
  const DoubleMatrix up = widened_matrix(factors.up).cast<double>();
  const DoubleMatrix down = widened_matrix(factors.down).cast<double>();
  const DoubleMatrix branch = times(up, times(down, x));
  const Sketch s = sketch_of(misses, x.cast<float>(), branch.cast<float>(), ctx);
  Subspace space = {.left = s.left.cast<double>(), .right = s.right};
  space.right += transposed_times(down, transposed_times(up, space.left));
  return space;
}

// The branch's own directions, and random ones to the width that products take anyway.
DoubleMatrix first_basis(const LowRankFactors& factors, int64_t width) {
  DoubleMatrix basis = gaussian(factors.down.dim(1), width);
  const FloatMatrix down = widened_matrix(factors.down);
  const int64_t rank = std::min<int64_t>(down.rows(), width);
  basis.leftCols(rank) = down.topRows(rank).transpose().cast<double>();
  return orthonormal(basis);
}

}  // namespace

LowRankFactors leading_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  const int64_t n = w.dim(0), k = w.dim(1);
  MZ_CHECK(rank >= 1 && rank <= std::min(n, k));
  const RowSource rows = {
      .n = n, .k = k, .fill = [&](const RowTile& part) { widen_part(w, part); }};
  const DoubleMatrix start = orthonormal(gaussian(k, block_width(rank, n, k)));
  return leading_factors(krylov_space(rows, start, kBlocks, ctx), rank);
}

LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx) {
  return split_of(w, leading_low_rank(w, rank, ctx), ctx);
}

LowRankResidual::LowRankResidual(const Tensor& w, const LowRankFactors& factors)
    : w_(w), negated_up_(widened(factors.up)), down_(factors.down) {
  float* up = negated_up_.mutable_data<float>();
  std::transform(up, up + negated_up_.size(), up, std::negate<>());
}

void LowRankResidual::fill(const RowTile& part) const {
  widen_part(w_, part);
  down_.add_product(negated_up_.data<float>() + part.first * negated_up_.dim(1), part);
}

void LowRankResidual::rows(int64_t first, const Tensor& out, const ExecContext& ctx) const {
  const int64_t k = w_.dim(1);
  MZ_CHECK(out.dim(1) == k && first + out.dim(0) <= w_.dim(0));
  parallel_for(ctx, out.dim(0), kSketchRows, [&](int64_t begin, int64_t end) {
    for (int64_t column = 0; column < k; column += kSketchColumns) {
      fill({.first = first + begin,
            .rows = end - begin,
            .column = column,
            .columns = std::min(kSketchColumns, k - column),
            .data = out.mutable_data<float>() + begin * k + column,
            .stride = k});
    }
  });
}

LowRankSplit alternate_low_rank(const Tensor& w, LowRankSplit start,
                                const ResidualRounding& rounding, int steps,
                                const ExecContext& ctx) {
  if (steps == 0) return start;
  const int64_t rank = start.down.dim(0);
  LowRankFactors factors = {.down = std::move(start.down), .up = std::move(start.up)};
  start.residual = {};  // may be large
  LowRankFactors best = factors;
  double least = std::numeric_limits<double>::infinity();
  RoundingMisses misses(w, rounding);
  DoubleMatrix basis = first_basis(factors, sketch_width(rank, w.dim(0), w.dim(1)));
  for (int step = 0;; ++step) {
    const RowSource& source = misses.beside(factors);
    Subspace space;
    if (step < steps) {
      space = step_space(source, factors, basis, ctx);
    } else {
      for_each_tile(source, ctx);
    }
    if (misses.sum() < least) {
      least = misses.sum();
      best = factors;
    }
    if (step == steps) break;
    basis = orthonormal(space.right);
    factors = leading_factors(space, rank);
  }
  return split_of(w, std::move(best), ctx);
}

ResidualRounding rounding_to_mx(Element element) {
  return {.by = RoundedBy::kBlock, .take_misses = [element](const RowTile& part) {
            const TakeMxMissesFn take = take_mx_misses(active_isa());
            double squares = 0;
            for (int64_t i = 0; i < part.rows; ++i) {
              squares += take(part.data + i * part.stride, element, part.columns);
            }
            return squares;
          }};
}

ResidualRounding rounding_to_values(
    RoundedBy by, std::function<void(const Tensor& rows, std::span<float> values)> round) {
  const auto scratch = std::make_shared<Workspace>();
  return {.by = by, .take_misses = [round = std::move(round), scratch](const RowTile& part) {
            const int64_t k = part.columns, size = part.rows * k;
            const int64_t bytes = size * static_cast<int64_t>(sizeof(float));
            const Scratch rows = scratch->take(bytes), rounded = scratch->take(bytes);
            for (int64_t i = 0; i < part.rows; ++i) {
              std::copy_n(part.data + i * part.stride, k, rows.as<float>() + i * k);
            }
            const Buffer borrowed = Buffer::borrow(rows.as<float>(), bytes);
            const std::span values(rounded.as<float>(), static_cast<size_t>(size));
            round(Tensor(DType::kF32, {part.rows, k}, borrowed), values);
            for (int64_t i = 0; i < part.rows; ++i) {
              const float* value = values.data() + i * k;
              float* miss = part.data + i * part.stride;
              for (int64_t j = 0; j < k; ++j) miss[j] -= value[j];
            }
            return squared_distance({rows.as<float>(), values.size()}, values);
          }};
}

LowRankCost low_rank_cost(int64_t n, int64_t k, int64_t rank, int steps, RoundedBy by,
                          int threads) {
  const int64_t split = block_width(rank, n, k), step = sketch_width(rank, n, k);
  const int64_t widest = steps > 0 ? std::max(kBlocks * split, step) : kBlocks * split;
  // Bases, what the weight makes of them, and copies on the way.
  constexpr int64_t kCopies = 2, kDouble = 8, kFloat = 4;
  int64_t bytes = kCopies * (n + 2 * k) * widest * kDouble;
  bytes += sketch_bytes(n, k, steps > 0 ? std::max(split, step) : split, kSketchRows, threads);
  // A tile of the residual again, what it is rounded to, and its codes.
  constexpr int64_t kHeld = 3;
  if (steps > 0 && by == RoundedBy::kRow) bytes += kHeld * threads * kSketchRows * k * kFloat;
  if (steps > 0 && by == RoundedBy::kTensor) bytes += (kHeld + 1) * n * k * kFloat;
  const double pass = 2 * static_cast<double>(n) * static_cast<double>(k);
  const auto columns = [](int64_t count) { return static_cast<double>(count); };
  double operations = pass * (kBlocks * 2 * columns(split) + columns(rank));
  operations += steps * pass * (2 * columns(step) + columns(rank));
  return {.bytes = bytes, .operations = operations};
}

}  // namespace mezzotint
