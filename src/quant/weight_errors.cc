#include "quant/weight_errors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/coded_row.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"
#include "numerics/dual_level.h"
#include "numerics/e8m0.h"
#include "numerics/mx.h"
#include "quant/effective_weight.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

struct Sums {
  PairSums weights;  // E beside w
  int64_t zeros = 0;
  int64_t clipped = 0;

  void add(const Sums& other) {
    weights.exact += other.weights.exact;
    weights.decoded += other.weights.decoded;
    weights.product += other.weights.product;
    weights.noise += other.weights.noise;
    weights.amax = std::max(weights.amax, other.weights.amax);
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

// What rows have in common, for the pass that does all at once; nothing where E is more than the
// codes, or the pass does not know the form.
std::optional<CodedRow> coded_row(const Tensor& w, const LinearParams& params) {
  const Element element = params.plan.weight.element;
  const int64_t k = params.plan.k, width = scale_width(params);
  const std::optional<FloatType> type = vector_type(w);
  const bool more = !params.mul_scale.empty() || params.plan.rank > 0;
  const bool codes = element == Element::kInt8 || element == Element::kInt4 ||
                     element == Element::kE2M1 || element == Element::kE4M3;
  if (!type || more || !codes || (width % kCodedRowWidth != 0 && width != k)) return {};
  const Range unit = unit_range(element);
  return CodedRow{.type = *type,
                  .element = element,
                  .k = k,
                  .width = width,
                  .lowest = unit.low,
                  .highest = unit.high};
}

// One row after another: w, and the codes' values, in whose place E is made.
class Row {
 public:
  Row(const Tensor& w, const LinearParams& params, const EffectiveWeight& effective)
      : w_(w),
        params_(params),
        effective_(effective),
        width_(scale_width(params)),
        add_(coded_row_op(active_isa())),
        coded_row_(coded_row(w, params)),
        exact_(static_cast<size_t>(params.plan.k)),
        coded_(exact_.size()),
        low_(static_cast<size_t>((params.plan.k + width_ - 1) / width_)),
        high_(low_.size()) {}

  // An empty branch is none.
  void measure(int64_t row, std::span<const float> branch, Sums& sums) {
    if (add_ != nullptr && coded_row_) {
      measure_at_once(row, sums);
    } else {
      measure_in_passes(row, branch, sums);
    }
  }

 private:
  void measure_at_once(int64_t row, Sums& sums) {
    CodedRow coded = *coded_row_;
    const auto floats = [&](const Tensor& t) {  // of this row
      return t.empty() ? nullptr : t.data<float>() + row * (t.size() / params_.plan.n);
    };
    coded.w = w_.raw() + row * coded.k * dtype_size(w_.dtype());
    coded.codes = params_.codes.raw() + row * code_row_bytes(coded.element, coded.k);
    coded.scale = params_.weight_scale.empty() ? scales(row) : floats(params_.weight_scale);
    coded.offset = floats(params_.weight_offset);
    coded.outer = floats(params_.dual_scale);
    CodedRowSums all = {.pairs = sums.weights, .outside = sums.clipped};
    add_(coded, all);
    sums.zeros += all.pairs.zeros - sums.weights.zeros;
    sums.weights = all.pairs;
    sums.clipped = all.outside;
  }

  // Those that files do not hold as floats.
  const float* scales(int64_t row) {
    if (params_.block_scale.empty()) {
      low_[0] = folded_scale(params_, row);
    } else {
      const auto blocks = static_cast<int64_t>(low_.size());
      const uint8_t* bytes = params_.block_scale.data<uint8_t>() + row * blocks;
      // A lambda, for a pointer to an always_inline function cannot be called without optimization.
      std::transform(bytes, bytes + blocks, low_.begin(),
                     [](uint8_t byte) { return e8m0_to_float(byte); });
    }
    return low_.data();
  }

  void measure_in_passes(int64_t row, std::span<const float> branch, Sums& sums) {
    const WeightOps& ops = weight_ops(active_isa());
    const int64_t k = params_.plan.k;
    widen_range(w_, row * k, exact_);
    effective_.codes(row, coded_);
    if (!params_.mul_scale.empty() || !branch.empty()) {
      constexpr float kZero = 0.0f;
      const int64_t zeros = k - ops.count_outside(coded_.data(), &kZero, &kZero, k, k);
      effective_.combine(coded_, branch);
      ops.add_pairs(exact_.data(), coded_.data(), k, sums.weights);
      sums.zeros += zeros;
      aim(branch);
    } else {
      const int64_t before = sums.weights.zeros;
      ops.add_pairs(exact_.data(), coded_.data(), k, sums.weights);
      sums.zeros += sums.weights.zeros - before;
    }
    sums.clipped += clipped(row);
  }

  // Values of exact_ beyond the ends of their codes.
  int64_t clipped(int64_t row) {
    for (size_t i = 0; i < low_.size(); ++i) {
      const Range range = range_at(params_, row, static_cast<int64_t>(i) * width_);
      low_[i] = range.low;
      high_[i] = range.high;
    }
    return weight_ops(active_isa())
        .count_outside(exact_.data(), low_.data(), high_.data(), width_, params_.plan.k);
  }

  // w -> what the codes were to be: without smoothing and the low-rank branch.
  void aim(std::span<const float> branch) {
    const bool smoothed = params_.plan.branch_input == BranchInput::kSmoothed;
    if (!smoothed) subtract(branch);
    if (!params_.mul_scale.empty()) {
      const float* mul = params_.mul_scale.data<float>();
      for (size_t i = 0; i < exact_.size(); ++i) exact_[i] /= mul[i];
    }
    if (smoothed) subtract(branch);
  }

  void subtract(std::span<const float> branch) {
    for (size_t i = 0; i < branch.size(); ++i) exact_[i] -= branch[i];
  }

  const Tensor& w_;
  const LinearParams& params_;
  const EffectiveWeight& effective_;
  int64_t width_;  // elements that share a scale
  AddCodedRow add_;
  std::optional<CodedRow> coded_row_;
  std::vector<float> exact_, coded_;
  std::vector<float> low_, high_;  // of each scale
};

Sums sums_of(const Tensor& w, const LinearParams& params, const EffectiveWeight& effective,
             int64_t begin, int64_t end) {
  const auto k = static_cast<size_t>(params.plan.k);
  std::vector<float> branch(params.plan.rank > 0 ? static_cast<size_t>(end - begin) * k : 0);
  if (!branch.empty()) effective.branch(begin, branch);
  Row measured(w, params, effective);
  Sums sums;
  for (int64_t row = begin; row < end; ++row) {
    const std::span<const float> all(branch);
    measured.measure(row, all.empty() ? all : all.subspan(static_cast<size_t>(row - begin) * k, k),
                     sums);
  }
  return sums;
}

WeightErrors errors_of(const Sums& sums, int64_t count) {
  WeightErrors errors;
  const auto elements = static_cast<double>(std::max<int64_t>(count, 1));
  const PairSums& weights = sums.weights;
  if (weights.noise > 0) {
    const double lengths = std::sqrt(weights.exact * weights.decoded);
    errors.sqnr_db = 10.0 * std::log10(weights.exact / weights.noise);
    errors.cosine = lengths > 0 ? weights.product / lengths : 0;
  }
  errors.zero_share = static_cast<double>(sums.zeros) / elements;
  errors.clip_share = static_cast<double>(sums.clipped) / elements;
  if (weights.exact > 0) errors.outlier_ratio = weights.amax / std::sqrt(weights.exact / elements);
  return errors;
}

}  // namespace

WeightErrors weight_errors(const Tensor& w, const LinearParams& params, const ExecContext& ctx) {
  const int64_t n = params.plan.n;
  MZ_CHECK(w.size() == n * params.plan.k);
  const EffectiveWeight effective(params);
  std::vector<Sums> parts(static_cast<size_t>((n + kRowGrain - 1) / kRowGrain));
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    parts[static_cast<size_t>(begin / kRowGrain)] = sums_of(w, params, effective, begin, end);
  });
  Sums total;  // in the order of the rows
  for (const Sums& part : parts) total.add(part);
  return errors_of(total, w.size());
}

}  // namespace mezzotint
