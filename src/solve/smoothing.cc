#include "solve/smoothing.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/check.h"
#include "base/parallel_for.h"
#include "numerics/bf16.h"
#include "numerics/rounding.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int kGridSteps = 20;
constexpr double kLeast = 1e-4;
constexpr double kMost = 1e4;
constexpr int64_t kRowGrain = 16;

float on_grid(double m, MultiplierGrid grid) {
  if (grid == MultiplierGrid::kBf16) return round_to_bf16(static_cast<float>(m));
  return static_cast<float>(std::exp2(std::nearbyint(std::log2(m))));
}

}  // namespace

std::vector<SmoothingExponents> smoothing_candidates() {
  std::vector<SmoothingExponents> all = {{0, 0}};
  for (int i = 1; i < kGridSteps; ++i) {
    const double alpha = static_cast<double>(i) / kGridSteps;
    all.push_back({alpha, 0});
    all.push_back({alpha, 1 - alpha});
  }
  return all;
}

std::vector<SmoothingExponents> awq_candidates() {
  std::vector<SmoothingExponents> all;
  for (int i = 0; i < kGridSteps; ++i) all.push_back({static_cast<double>(i) / kGridSteps, 0});
  return all;
}

std::vector<float> smoothing_multipliers(std::span<const float> input,
                                         std::span<const float> weight,
                                         const SmoothingExponents& exponents, MultiplierGrid grid) {
  MZ_CHECK(input.size() == weight.size());
  std::vector<double> log_m(input.size(), 0.0);
  double sum = 0;
  int64_t live = 0;
  const auto is_live = [&](size_t i) { return input[i] > 0 && weight[i] > 0; };
  for (size_t i = 0; i < input.size(); ++i) {
    if (!is_live(i)) continue;
    log_m[i] = exponents.weight * std::log(double{weight[i]}) -
               exponents.input * std::log(double{input[i]});
    sum += log_m[i];
    ++live;
  }
  const double mean = live == 0 ? 0 : sum / static_cast<double>(live);
  std::vector<float> multipliers(input.size(), 1.0f);
  for (size_t i = 0; i < input.size(); ++i) {
    if (is_live(i)) {
      multipliers[i] = on_grid(std::clamp(std::exp(log_m[i] - mean), kLeast, kMost), grid);
    }
  }
  return multipliers;
}

SmoothingChoice search_smoothing(
    std::span<const float> input, std::span<const float> weight,
    std::span<const SmoothingExponents> candidates, MultiplierGrid grid,
    const std::function<double(std::span<const float> multipliers)>& error) {
  MZ_CHECK(!candidates.empty());
  SmoothingChoice best;
  for (const SmoothingExponents& tried : candidates) {
    std::vector<float> multipliers = smoothing_multipliers(input, weight, tried, grid);
    const double cost = error(multipliers);
    if (!best.multipliers.empty() && !(cost < best.error)) continue;
    best = {.exponents = tried, .multipliers = std::move(multipliers), .error = cost};
  }
  return best;
}

std::vector<float> column_amax(const Tensor& w, const ExecContext& ctx) {
  const auto k = static_cast<size_t>(w.dim(1));
  std::vector<float> all(k, 0.0f);
  std::mutex mutex;
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(k), most(k, 0.0f);
    for (int64_t n = begin; n < end; ++n) {
      widen_range(w, n * w.dim(1), row);
      for (size_t i = 0; i < k; ++i) most[i] = std::max(most[i], absolute(row[i]));
    }
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < k; ++i) all[i] = std::max(all[i], most[i]);
  });
  return all;
}

Tensor divided_columns(const Tensor& w, std::span<const float> multipliers,
                       const ExecContext& ctx) {
  const int64_t k = w.dim(1);
  MZ_CHECK(static_cast<int64_t>(multipliers.size()) == k);
  Tensor out = Tensor::allocate(DType::kF32, w.shape());
  auto* values = out.mutable_data<float>();
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const std::span<float> row(values + n * k, static_cast<size_t>(k));
      widen_range(w, n * k, row);
      for (size_t i = 0; i < row.size(); ++i) row[i] /= multipliers[i];
    }
  });
  return out;
}

Tensor smoothed_gram(const Tensor& gram, std::span<const float> multipliers,
                     const ExecContext& ctx) {
  const int64_t k = gram.dim(0);
  MZ_CHECK(static_cast<int64_t>(multipliers.size()) == k);
  Tensor out = Tensor::allocate(DType::kF32, gram.shape());
  const float* from = gram.data<float>();
  auto* to = out.mutable_data<float>();
  parallel_for(ctx, k, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float own = multipliers[static_cast<size_t>(i)];
      for (int64_t j = 0; j < k; ++j) {
        to[i * k + j] = own * multipliers[static_cast<size_t>(j)] * from[i * k + j];
      }
    }
  });
  return out;
}

}  // namespace mezzotint
