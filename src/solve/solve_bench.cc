// What the solvers of calibrated export cost per layer and thread, beside the textbook form of the
// same algorithm in the same run.
//
//   mezzotint_bench --benchmark_filter='Gptq|LowRank|Gram'
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <f77blas.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/bench_peak.h"
#include "numerics/int4.h"
#include "solve/correlated_data.h"
#include "solve/gptq.h"
#include "solve/gram.h"
#include "solve/low_rank.h"
#include "solve/rtn.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

using bench::Arithmetic;
using bench::BesidePeak;

constexpr int64_t kGroup = 64;

const ExecContext& one_thread() {
  static const ExecContext ctx({.threads = 1});
  return ctx;
}

Tensor uniform(int64_t rows, int64_t cols) {
  std::mt19937 random(1);
  Tensor t = Tensor::allocate(DType::kF32, {rows, cols});
  std::generate_n(t.mutable_data<float>(), t.size(),
                  [&] { return static_cast<float>(static_cast<int32_t>(random())) * 0x1p-31f; });
  return t;
}

// Rows of a few thousand uniform values span k columns only with the damping that GPTQ adds.
Tensor some_gram(int64_t k) { return gram_of(uniform(1024, k), one_thread()); }

void report(benchmark::State& state, const BesidePeak& timer, double operations) {
  state.counters["best_s"] = timer.best_seconds();
  state.counters["share_of_peak"] = timer.share(operations);
}

double gptq_operations(int64_t n, int64_t k) {
  const auto kd = static_cast<double>(k);
  return kd * kd * kd / 3 + static_cast<double>(n) * kd * kd;
}

// --- GPTQ, int4 in groups of 64 ------------------------------------------------------------------

IntegerWeight nearest(const Tensor& w) {
  return round_to_nearest(w, Element::kInt4, {.groups = w.dim(1) / kGroup}, one_thread());
}

void BM_GptqFromGram(benchmark::State& state) {
  const int64_t n = state.range(0), k = state.range(1);
  const Tensor w = uniform(n, k);
  const Tensor gram = some_gram(k);
  const IntegerWeight rtn = nearest(w);
  const WeightView grid = {
      .element = Element::kInt4, .n = n, .k = k, .group = kGroup, .scale = rtn.scale.data<float>()};
  BesidePeak timer(Arithmetic::kFloat);
  for (auto _ : state) {
    timer.measure([&] {
      const GptqFactor factor = factor_gram(gram, {.rows = 4 * k});
      MZ_CHECK(!factor.diagonal_only);
      benchmark::DoNotOptimize(gptq_codes(w, grid, factor, one_thread()));
    });
  }
  report(state, timer, gptq_operations(n, k));
}
BENCHMARK(BM_GptqFromGram)
    ->Args({3072, 3072})
    ->Args({5120, 13824})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// The upper Cholesky factor of the inverse: three factorizations.
std::vector<float> inverse_factor(const Tensor& gram) {
  auto k = static_cast<blasint>(gram.dim(0));
  const auto size = static_cast<size_t>(k);
  std::vector<float> h(gram.data<float>(), gram.data<float>() + gram.size());
  double mean = 0;
  for (size_t i = 0; i < size; ++i) mean += double{h[i * size + i]} / static_cast<double>(size);
  for (size_t i = 0; i < size; ++i) h[i * size + i] += static_cast<float>(0.01 * mean);
  char lower = 'L';  // LAPACK counts columns first: our upper triangle
  blasint info = 0;
  BLASFUNC(spotrf)(&lower, &k, h.data(), &k, &info);
  MZ_CHECK(info == 0);
  BLASFUNC(spotri)(&lower, &k, h.data(), &k, &info);
  MZ_CHECK(info == 0);
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j < i; ++j) h[i * size + j] = h[j * size + i];
  }
  BLASFUNC(spotrf)(&lower, &k, h.data(), &k, &info);
  MZ_CHECK(info == 0);
  return h;
}

// Frantar et al., algorithm 1: column by column, the rest of the rows updated after each block.
void textbook_gptq(Tensor& w, const std::vector<float>& scale, const std::vector<float>& u) {
  constexpr int64_t kBlock = 128;
  const int64_t n = w.dim(0), k = w.dim(1);
  auto* values = w.mutable_data<float>();
  std::vector<float> errors(static_cast<size_t>(n * kBlock));
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, k);
    for (int64_t c = begin; c < end; ++c) {
      const float* row_u = u.data() + c * k;
      for (int64_t row = 0; row < n; ++row) {
        float* from = values + row * k;
        const float s = scale[static_cast<size_t>(row * (k / kGroup) + c / kGroup)];
        const float error = (from[c] - static_cast<float>(int4_code(from[c], s)) * s) / row_u[c];
        errors[static_cast<size_t>(row * kBlock + c - begin)] = error;
        for (int64_t j = c + 1; j < end; ++j) from[j] -= error * row_u[j];
      }
    }
    if (end == k) break;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(n),
                static_cast<int>(k - end), static_cast<int>(end - begin), -1.0f, errors.data(),
                kBlock, u.data() + begin * k + end, static_cast<int>(k), 1.0f, values + end,
                static_cast<int>(k));
  }
}

void BM_TextbookGptq(benchmark::State& state) {
  const int64_t n = state.range(0), k = state.range(1);
  Tensor w = uniform(n, k);
  const Tensor gram = some_gram(k);
  const IntegerWeight rtn = nearest(w);
  const std::vector<float> scale(rtn.scale.data<float>(),
                                 rtn.scale.data<float>() + rtn.scale.size());
  BesidePeak timer(Arithmetic::kFloat);
  for (auto _ : state) timer.measure([&] { textbook_gptq(w, scale, inverse_factor(gram)); });
  report(state, timer, gptq_operations(n, k));
}
BENCHMARK(BM_TextbookGptq)
    ->Args({3072, 3072})
    ->Args({5120, 13824})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

void BM_Gram(benchmark::State& state) {
  const int64_t rows = state.range(0), k = state.range(1);
  const Tensor x = uniform(rows, k);
  BesidePeak timer(Arithmetic::kFloat);
  for (auto _ : state) timer.measure([&] { benchmark::DoNotOptimize(gram_of(x, one_thread())); });
  const auto kd = static_cast<double>(k);
  report(state, timer, static_cast<double>(rows) * kd * (kd + 1));
}
BENCHMARK(BM_Gram)->Args({2048, 5120})->Iterations(2)->Unit(benchmark::kMillisecond);

// --- low rank, the residual as MXFP4 -------------------------------------------------------------

// What MXFP4 makes of a matrix leaves so much.
double rounding_error(const Tensor& residual) {
  Tensor misses = Tensor::allocate(DType::kF32, residual.shape());
  std::copy_n(residual.data<float>(), residual.size(), misses.mutable_data<float>());
  return std::sqrt(rounding_to_mx(Element::kE2M1)
                       .take_misses({.rows = residual.dim(0),
                                     .columns = residual.dim(1),
                                     .data = misses.mutable_data<float>(),
                                     .stride = residual.dim(1)}));
}

double norm_of(const Tensor& t) {
  double sum = 0;
  const Tensor wide = widened(t);
  for (const float v : std::span(wide.data<float>(), static_cast<size_t>(t.size()))) {
    sum += double{v} * v;
  }
  return std::sqrt(sum);
}

// As files hold weights.
Tensor bf16_noise(int64_t n, int64_t k) {
  const Tensor wide = uniform(n, k);
  Tensor w = Tensor::allocate(DType::kBF16, {n, k});
  narrow_range({wide.data<float>(), static_cast<size_t>(wide.size())}, w, 0);
  return w;
}

// Alternating steps; 0: the split alone.
void BM_LowRank(benchmark::State& state) {
  const auto steps = static_cast<int>(state.range(2));
  const Tensor w = bf16_noise(state.range(0), state.range(1));
  BesidePeak timer(Arithmetic::kFloat);
  double left = 0, missed = 0;
  for (auto _ : state) {
    LowRankSplit split;
    if (steps > 0) split = split_low_rank(w, 32, one_thread());
    timer.measure([&] {
      split = steps == 0 ? split_low_rank(w, 32, one_thread())
                         : alternate_low_rank(w, std::move(split), rounding_to_mx(Element::kE2M1),
                                              steps, one_thread());
    });
    left = norm_of(split.residual) / norm_of(w);
    missed = rounding_error(split.residual) / norm_of(w);
  }
  report(state, timer, 0);
  state.counters["residual"] = left;
  state.counters["rounding_error"] = missed;
}
BENCHMARK(BM_LowRank)
    ->Args({5120, 13824, 0})
    ->Args({5120, 13824, 8})
    ->Args({640, 1728, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// What deepcompressor and Model-Optimizer do: every singular vector, in double.
void BM_TextbookLowRank(benchmark::State& state) {
  const int64_t n = state.range(0), k = state.range(1);
  const Tensor w = widened(bf16_noise(n, k));
  using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd m = Eigen::Map<const Floats>(w.data<float>(), n, k).cast<double>();
  BesidePeak timer(Arithmetic::kFloat);
  double left = 0;
  for (auto _ : state) {
    timer.measure([&] {
      const Eigen::BDCSVD<Eigen::MatrixXd> svd(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
      const auto kept = svd.singularValues().size() - 32;
      left = svd.singularValues().tail(kept).norm() / m.norm();
    });
  }
  report(state, timer, 0);
  state.counters["residual"] = left;
}
BENCHMARK(BM_TextbookLowRank)->Args({640, 1728})->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mezzotint
