#include "quant/weight_errors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "numerics/dual_level.h"
#include "numerics/e8m0.h"
#include "numerics/mx.h"
#include "quant/difference.h"
#include "quant/effective_weight.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

struct Sums {
  Difference weights;  // of E from w
  double amax = 0;
  int64_t zeros = 0;
  int64_t clipped = 0;

  void add(const Sums& other) {
    weights.add(other.weights);
    amax = std::max(amax, other.amax);
    zeros += other.zeros;
    clipped += other.clipped;
  }
};

// Values below low and above high are not coded as themselves.
struct Range {
  float low = 0;
  float high = 0;
};

// The ends of a grid with scale 1 and offset 0, and half of its last step beyond them.
Range unit_range(Element element) {
  switch (element) {
    case Element::kInt8:
      return {-128.5f, 127.5f};
    case Element::kInt4:
      return {-8.5f, 7.5f};
    case Element::kE2M1:
      return {-7.0f, 7.0f};  // 6 and half of a step of 2
    case Element::kE4M3:
      return {-464.0f, 464.0f};  // 448 and half of a step of 32
    default:
      return {-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
  }
}

// Elements of k that share one scale.
int64_t scale_width(const LinearParams& params) {
  if (!params.block_scale.empty()) return kMxBlock;
  return params.plan.weight.group > 0 ? params.plan.weight.group : params.plan.k;
}

Range range_at(const LinearParams& params, int64_t row, int64_t first) {
  const Range unit = unit_range(params.plan.weight.element);
  const int64_t k = params.plan.k;
  float scale = 1, offset = 0;
  if (!params.block_scale.empty()) {
    const auto* bytes = params.block_scale.data<uint8_t>();
    scale = e8m0_to_float(bytes[row * mx_blocks(k) + first / kMxBlock]);
    if (!params.dual_scale.empty()) {
      scale *= params.dual_scale.data<float>()[row * dual_blocks(k) + first / kDualBlock];
    }
  } else if (params.weight_scale.empty()) {
    scale = folded_scale(params, row);
  } else {
    const int64_t groups = params.weight_scale.size() / params.plan.n;
    const int64_t at = row * groups + first / scale_width(params);
    scale = params.weight_scale.data<float>()[at];
    if (!params.weight_offset.empty()) offset = params.weight_offset.data<float>()[at];
  }
  return {(unit.low - offset) * scale, (unit.high - offset) * scale};
}

// One row: w, what was to be coded, the codes' values and E.
class Row {
 public:
  explicit Row(const LinearParams& params)
      : params_(params),
        exact_(static_cast<size_t>(params.plan.k)),
        target_(exact_.size()),
        coded_(exact_.size()),
        effective_(exact_.size()) {}

  Sums measure(const Tensor& w, int64_t row) {
    widen_range(w, row * params_.plan.k, exact_);
    code_row(params_, row, coded_);
    if (is_plain()) {
      target_ = exact_;
      effective_ = coded_;
    } else {
      effective_row(params_, row, effective_);
      aim(row);
    }
    Sums sums;
    for (size_t i = 0; i < exact_.size(); ++i) {
      sums.weights.add(exact_[i], effective_[i]);
      sums.amax = std::max(sums.amax, std::abs(double{exact_[i]}));
      sums.zeros += coded_[i] == 0.0f ? 1 : 0;
    }
    sums.clipped = clipped(row);
    return sums;
  }

 private:
  bool is_plain() const { return params_.mul_scale.empty() && params_.plan.rank == 0; }

  // target = what the codes were to be: w without smoothing and the low-rank branch.
  void aim(int64_t row) {
    std::vector<float> branch(exact_.size(), 0.0f);
    if (params_.plan.rank > 0) add_low_rank_row(params_, row, branch);
    const bool smoothed = params_.plan.branch_input == BranchInput::kSmoothed;
    for (size_t i = 0; i < target_.size(); ++i) {
      const float mul = params_.mul_scale.empty() ? 1.0f : params_.mul_scale.data<float>()[i];
      target_[i] = smoothed ? exact_[i] / mul - branch[i] : (exact_[i] - branch[i]) / mul;
    }
  }

  int64_t clipped(int64_t row) const {
    const int64_t k = params_.plan.k, width = scale_width(params_);
    int64_t count = 0;
    for (int64_t first = 0; first < k; first += width) {
      const Range range = range_at(params_, row, first);
      const int64_t end = std::min(k, first + width);
      for (int64_t i = first; i < end; ++i) {
        const float v = target_[static_cast<size_t>(i)];
        count += (v < range.low || v > range.high) ? 1 : 0;
      }
    }
    return count;
  }

  const LinearParams& params_;
  std::vector<float> exact_, target_, coded_, effective_;
};

WeightErrors errors_of(const Sums& sums, int64_t count) {
  WeightErrors errors;
  const auto elements = static_cast<double>(std::max<int64_t>(count, 1));
  const Difference& weights = sums.weights;
  if (weights.noise > 0) errors.sqnr_db = 10.0 * std::log10(weights.signal / weights.noise);
  errors.cosine = weights.cosine();
  errors.zero_share = static_cast<double>(sums.zeros) / elements;
  errors.clip_share = static_cast<double>(sums.clipped) / elements;
  if (weights.signal > 0) errors.outlier_ratio = sums.amax / std::sqrt(weights.signal / elements);
  return errors;
}

}  // namespace

WeightErrors weight_errors(const Tensor& w, const LinearParams& params, const ExecContext& ctx) {
  const int64_t n = params.plan.n;
  MZ_CHECK(w.size() == n * params.plan.k);
  std::vector<Sums> rows(static_cast<size_t>(n));  // summed in order below
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    Row measure(params);
    for (int64_t row = begin; row < end; ++row) {
      rows[static_cast<size_t>(row)] = measure.measure(w, row);
    }
  });
  Sums total;
  for (const Sums& row : rows) total.add(row);
  return errors_of(total, w.size());
}

}  // namespace mezzotint
