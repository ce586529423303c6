#include "solve/gptq.h"

#include <cblas.h>
#include <f77blas.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "base/check.h"
#include "base/parallel_for.h"
#include "mezzotint/error.h"
#include "solve/code_rows.h"
#include "solve/weight_grid.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kColumnBlock = 128;  // 128 x 128 floats of feedback: 64 KiB, in an L2
constexpr int64_t kRowGrain = 128;     // rows per task: enough to make sgemm of the blocks pay
constexpr double kMostDamping = 1.0;

int as_int(int64_t v) { return static_cast<int>(v); }

std::vector<int64_t> column_order(const std::vector<float>& diagonal, ColumnOrder order) {
  std::vector<int64_t> columns(diagonal.size());
  std::iota(columns.begin(), columns.end(), int64_t{0});
  if (order == ColumnOrder::kByEnergy) {
    const auto energy = [&](int64_t column) { return diagonal[static_cast<size_t>(column)]; };
    std::ranges::sort(columns, [&](int64_t a, int64_t b) {
      return energy(a) > energy(b) || (energy(a) == energy(b) && a < b);
    });
  }
  return columns;
}

std::vector<float> diagonal_of(const Tensor& gram) {
  const int64_t k = gram.dim(0);
  std::vector<float> diagonal(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) {
    diagonal[static_cast<size_t>(i)] = gram.data<float>()[i * (k + 1)];
  }
  return diagonal;
}

// The Gram matrix with its columns in order and then reversed: J H J.
Tensor reversed(const Tensor& gram, const std::vector<int64_t>& order) {
  const int64_t k = gram.dim(0);
  const float* from = gram.data<float>();
  Tensor out = Tensor::allocate(DType::kF32, {k, k});
  auto* to = out.mutable_data<float>();
  for (int64_t i = 0; i < k; ++i) {
    const int64_t row = order[static_cast<size_t>(k - 1 - i)];
    for (int64_t j = 0; j < k; ++j) {
      const int64_t col = order[static_cast<size_t>(k - 1 - j)];
      to[i * k + j] = from[row * k + col];
    }
  }
  return out;
}

// The lower triangle (row-major) becomes the Cholesky factor; the upper one, which LAPACK does not
// touch, keeps the matrix for another try. False: not positive definite.
bool factor_lower(const Tensor& matrix) {
  char upper = 'U';  // LAPACK counts columns first: its upper triangle is our lower one
  blasint k = as_int(matrix.dim(0));
  blasint info = 0;
  BLASFUNC(spotrf)(&upper, &k, matrix.mutable_data<float>(), &k, &info);
  MZ_CHECK(info >= 0);
  return info == 0;
}

void restore_lower(const Tensor& matrix) {
  const int64_t k = matrix.dim(0);
  auto* m = matrix.mutable_data<float>();
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < i; ++j) m[i * k + j] = m[j * k + i];
  }
}

// The damping that let the factorization succeed.
std::optional<double> factor_damped(const Tensor& matrix, const std::vector<float>& diagonal,
                                    double mean, double damping) {
  const int64_t k = matrix.dim(0);
  for (; damping <= kMostDamping; damping *= 10) {
    for (int64_t i = 0; i < k; ++i) {
      matrix.mutable_data<float>()[i * (k + 1)] =
          static_cast<float>(diagonal[static_cast<size_t>(i)] + damping * mean);
    }
    if (factor_lower(matrix)) return damping;
    restore_lower(matrix);
  }
  return std::nullopt;
}

// R from the reversed factor, its columns divided by their diagonal, what is not above it zero.
void make_feedback(const Tensor& matrix) {
  const int64_t k = matrix.dim(0);
  auto* m = matrix.mutable_data<float>();
  for (int64_t i = 0; i < k; ++i) std::fill_n(m + i * k + i + 1, k - i - 1, 0.0f);
  std::reverse(m, m + k * k);
  std::vector<float> diagonal = diagonal_of(matrix);
  for (int64_t i = 0; i < k; ++i) {
    m[i * (k + 1)] = 0;
    for (int64_t j = i + 1; j < k; ++j) m[i * k + j] /= diagonal[static_cast<size_t>(j)];
  }
}

void check_finite(const std::vector<float>& diagonal) {
  for (size_t i = 0; i < diagonal.size(); ++i) {
    if (diagonal[i] >= 0 && std::isfinite(diagonal[i])) continue;
    throw Error(ErrorCode::kInput, "the Gram matrix holds a value that cannot be right",
                {.expected = "finite sums of squares",
                 .found = fmt::format("{} in channel {}", diagonal[i], i),
                 .fix = "collect the statistics again"});
  }
}

// --- codes ---------------------------------------------------------------------------------------

// One task: rows [first, first + count) of w.
class RowSolver {
 public:
  RowSolver(const Tensor& w, const WeightView& grid, const GptqFactor& factor, int64_t first,
            int64_t count)
      : grid_(grid), factor_(factor), first_(first), count_(count), k_(w.dim(1)) {
    const auto size = static_cast<size_t>(count * k_);
    std::vector<float> stored(size);
    widen_range(w, first * k_, stored);
    weights_.resize(size);
    errors_.resize(size);
    codes_.resize(size);
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < k_; ++i) {
        weights_[at(row, i)] = stored[at(row, factor.order[static_cast<size_t>(i)])];
      }
    }
  }

  void solve() {
    for (int64_t begin = 0; begin < k_; begin += kColumnBlock) {
      solve_block(begin, std::min(begin + kColumnBlock, k_));
    }
  }

  const uint8_t* codes(int64_t row) const { return codes_.data() + at(row, 0); }

 private:
  size_t at(int64_t row, int64_t column) const { return static_cast<size_t>(row * k_ + column); }

  void solve_block(int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    const float* feedback = factor_.feedback.data<float>();
    std::vector<float> target(static_cast<size_t>(count_ * width));
    for (int64_t row = 0; row < count_; ++row) {
      std::copy_n(weights_.data() + at(row, begin), width, target.data() + row * width);
    }
    if (begin > 0 && !factor_.diagonal_only) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(count_), as_int(width),
                  as_int(begin), 1.0f, errors_.data(), as_int(k_), feedback + begin, as_int(k_),
                  1.0f, target.data(), as_int(width));
    }
    for (int64_t row = 0; row < count_; ++row) {
      solve_row(row, begin, width, target.data() + row * width);
    }
  }

  void solve_row(int64_t row, int64_t begin, int64_t width, float* target) {
    for (int64_t i = 0; i < width; ++i) {
      const int64_t column = factor_.order[static_cast<size_t>(begin + i)];
      const GridPoint point = nearest_point(grid_, first_ + row, column, target[i]);
      codes_[at(row, column)] = point.code;
      const float error = weights_[at(row, begin + i)] - point.value;
      errors_[at(row, begin + i)] = error;
      if (factor_.diagonal_only) continue;
      const float* feedback = factor_.feedback.data<float>() + (begin + i) * k_ + begin;
      for (int64_t j = i + 1; j < width; ++j) target[j] += error * feedback[j];
    }
  }

  const WeightView& grid_;
  const GptqFactor& factor_;
  int64_t first_, count_, k_;
  std::vector<float> weights_;  // [count,k] in the order of solving
  std::vector<float> errors_;   // likewise
  std::vector<uint8_t> codes_;  // [count,k] as stored
};

}  // namespace

double gptq_damping(int64_t rows, int64_t k) {
  if (rows >= 4 * k) return 0.01;
  return rows >= 2 * k ? 0.05 : 0.1;
}

GptqFactor factor_gram(const Tensor& gram, const GptqOptions& options) {
  MZ_CHECK(gram.shape().size() == 2 && gram.dim(0) == gram.dim(1));
  const int64_t k = gram.dim(0);
  std::vector<float> diagonal = diagonal_of(gram);
  check_finite(diagonal);
  const double mean =
      std::accumulate(diagonal.begin(), diagonal.end(), 0.0) / static_cast<double>(k);
  GptqFactor factor;
  factor.order = column_order(diagonal, options.order);
  factor.feedback = reversed(gram, factor.order);
  for (float& v : diagonal) v = v > 0 ? v : static_cast<float>(mean > 0 ? mean : 1.0);
  std::vector<float> reversed_diagonal;
  for (auto column = factor.order.rbegin(); column != factor.order.rend(); ++column) {
    reversed_diagonal.push_back(diagonal[static_cast<size_t>(*column)]);
  }
  const std::optional<double> damping =
      factor_damped(factor.feedback, reversed_diagonal, mean, gptq_damping(options.rows, k));
  factor.damping = damping.value_or(0);
  factor.diagonal_only = !damping.has_value();
  if (damping) make_feedback(factor.feedback);
  return factor;
}

Tensor gptq_codes(const Tensor& w, const WeightView& grid, const GptqFactor& factor,
                  const ExecContext& ctx) {
  MZ_CHECK(w.shape() == (Shape{grid.n, grid.k}));
  MZ_CHECK(static_cast<int64_t>(factor.order.size()) == grid.k);
  const int64_t row_bytes = code_row_bytes(grid.element, grid.k);
  Tensor codes = Tensor::allocate(code_dtype(grid.element), {grid.n, row_bytes});
  std::byte* out = codes.buffer().mutable_data();
  parallel_for(ctx, grid.n, kRowGrain, [&](int64_t begin, int64_t end) {
    RowSolver solver(w, grid, factor, begin, end - begin);
    solver.solve();
    for (int64_t row = begin; row < end; ++row) {
      store_code_row(grid.element, solver.codes(row - begin), grid.k, out + row * row_bytes);
    }
  });
  return codes;
}

}  // namespace mezzotint
