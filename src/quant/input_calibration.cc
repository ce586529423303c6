#include "quant/input_calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "mezzotint/error.h"
#include "numerics/int8.h"
#include "solve/gram.h"
#include "solve/smoothing.h"
#include "solve/static_range.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

[[noreturn]] void too_few(const InputStatistics& input, int64_t expected, int64_t found,
                          std::string fix) {
  throw Error(ErrorCode::kUsage, "the statistics have too few rows",
              {.layer = input.name,
               .expected = fmt::format("at least {}", expected),
               .found = std::to_string(found),
               .fix = std::move(fix)});
}

// That the Gram matrix sums: of all rows, or of the sample.
int64_t gram_rows(const InputStatistics& input) {
  if (!input.gram.empty()) return input.rows;
  return input.tokens.empty() ? 0 : input.tokens.dim(0);
}

}  // namespace

void require_sample(const InputStatistics& input) {
  const int64_t rows = input.tokens.empty() ? 0 : input.tokens.dim(0);
  if (rows >= kLeastRows) return;
  too_few(input, kLeastRows, rows, "mezzotint collect with more --prompts, or more --tokens");
}

void require_gram(const InputStatistics& input) {
  const int64_t rows = gram_rows(input);
  if (2 * rows >= input.k) return;
  too_few(
      input, (input.k + 1) / 2, rows,
      fmt::format("mezzotint collect --gram {}, or --tokens {} or more", input.name, 2 * input.k));
}

void require_histograms(const InputStatistics& input, const Calibration& how) {
  if (!input.hist.empty() || how.range == RangeRule::kMinMax) return;
  throw Error(ErrorCode::kUsage, "the statistics hold no histograms",
              {.layer = input.name,
               .expected = "histograms, or the range rule minmax",
               .found = "none",
               .fix = "mezzotint collect without --no-histograms"});
}

Tensor sampled_rows(const InputStatistics& input, int64_t rows,
                    const std::vector<float>& multipliers) {
  const int64_t k = input.k;
  Tensor x = Tensor::allocate(DType::kF32, {std::min(rows, input.tokens.dim(0)), k});
  auto* values = x.mutable_data<float>();
  widen_range(input.tokens, 0, {values, static_cast<size_t>(x.size())});
  if (multipliers.empty()) return x;
  for (int64_t i = 0; i < x.size(); ++i) values[i] *= multipliers[static_cast<size_t>(i % k)];
  return x;
}

InputCalibration::InputCalibration(const InputStatistics& input, const Calibration& how,
                                   std::vector<float> multipliers, const ExecContext& ctx)
    : input_(&input), how_(how), multipliers_(std::move(multipliers)), ctx_(ctx) {}

const Tensor& InputCalibration::gram() {
  if (gram_) return *gram_;
  require_gram(*input_);
  const Tensor plain = input_->gram.empty() ? gram_of(input_->tokens, ctx_) : input_->gram;
  gram_ = multipliers_.empty() ? plain : smoothed_gram(plain, multipliers_, ctx_);
  return *gram_;
}

const GptqFactor& InputCalibration::factor(ColumnOrder order) {
  if (!factor_ || factor_order_ != order) {
    factor_order_ = order;
    try {
      factor_ = factor_gram(gram(), {.rows = gram_rows(*input_), .order = order});
    } catch (const Error& error) {
      ErrorDetails details = error.details();
      details.layer = input_->name;
      throw Error(error.code(), "the Gram matrix of an input cannot be used", std::move(details));
    }
  }
  return *factor_;
}

void InputCalibration::release() noexcept {
  gram_.reset();
  factor_.reset();
}

// --- static scales -------------------------------------------------------------------------------

struct InputCalibration::Seen {
  float min = kInfinity;
  float max = -kInfinity;
  std::vector<int64_t> hist{};

  ValueRange range() const { return {.min = min, .max = max, .hist = hist}; }
};

// Smoothed values come from the sample, others from all rows.
std::vector<InputCalibration::Seen> InputCalibration::seen_per_step() const {
  std::vector<Seen> all(static_cast<size_t>(steps()));
  constexpr auto kCounts = static_cast<size_t>(2 * kHistogramBins);
  if (!multipliers_.empty()) {
    require_sample(*input_);
    for (Seen& at : all) at.hist.assign(kCounts, 0);
    const Tensor x = sampled_rows(*input_, input_->tokens.dim(0), multipliers_);
    for (int64_t i = 0; i < x.size(); ++i) {
      Seen& at = all[static_cast<size_t>(input_->token_steps.data<int32_t>()[i / input_->k])];
      const float v = x.data<float>()[i];
      at.min = std::min(at.min, v);
      at.max = std::max(at.max, v);
      ++at.hist[static_cast<size_t>(histogram_bin(v) + (std::signbit(v) ? kHistogramBins : 0))];
    }
    return all;
  }
  require_histograms(*input_, how_);
  for (size_t t = 0; t < all.size(); ++t) {
    all[t].min = input_->min.data<float>()[t];
    all[t].max = input_->max.data<float>()[t];
    if (input_->hist.empty()) continue;
    const int64_t* hist = input_->hist.data<int64_t>() + t * kCounts;
    all[t].hist.assign(hist, hist + kCounts);
  }
  return all;
}

AffineParams InputCalibration::static_scale() const {
  Seen whole;
  for (const Seen& at : seen_per_step()) {
    whole.min = std::min(whole.min, at.min);
    whole.max = std::max(whole.max, at.max);
    whole.hist.resize(at.hist.size());
    for (size_t i = 0; i < at.hist.size(); ++i) whole.hist[i] += at.hist[i];
  }
  return static_range(whole.range(), how_.range);
}

std::vector<AffineParams> InputCalibration::step_scales() const {
  std::vector<std::optional<AffineParams>> known;
  for (const Seen& at : seen_per_step()) {
    known.emplace_back();
    if (at.min <= at.max) known.back() = static_range(at.range(), how_.range);
  }
  std::vector<AffineParams> scales;
  for (int64_t t = 0; t < steps(); ++t) {
    const std::optional<AffineParams>* nearest = nullptr;
    for (int64_t distance = 0; distance < steps() && nearest == nullptr; ++distance) {
      for (const int64_t other : {t - distance, t + distance}) {
        if (other < 0 || other >= steps() || !known[static_cast<size_t>(other)]) continue;
        nearest = &known[static_cast<size_t>(other)];
        break;
      }
    }
    MZ_CHECK(nearest != nullptr);  // count >= 1: some step was seen
    scales.push_back(**nearest);
  }
  return scales;
}

std::vector<std::optional<InputCalibration::StepError>> InputCalibration::step_errors() const {
  require_sample(*input_);
  const std::vector<AffineParams> scales = step_scales();
  std::vector<StepError> sums(scales.size());
  std::vector<double> energy(scales.size(), 0.0);
  const Tensor x = sampled_rows(*input_, input_->tokens.dim(0), multipliers_);
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const auto step = static_cast<size_t>(input_->token_steps.data<int32_t>()[row]);
    const std::span<const float> values(x.data<float>() + row * input_->k,
                                        static_cast<size_t>(input_->k));
    float amax = 0;
    for (const float v : values) amax = std::max(amax, std::abs(v));
    const float scale = int8_token_scale(amax);
    for (const float v : values) {
      const int8_t code = int8_static_code(v, scales[step].scale, scales[step].offset);
      const double fixed = double{v} - affine_value(code, scales[step]);
      const double dynamic = double{v} - double{scale} * int8_code(v, scale);
      sums[step].fixed += fixed * fixed;
      sums[step].dynamic += dynamic * dynamic;
      energy[step] += double{v} * v;
    }
  }
  std::vector<std::optional<StepError>> errors(scales.size());
  for (size_t t = 0; t < errors.size(); ++t) {
    if (energy[t] > 0) {
      errors[t] = {.fixed = sums[t].fixed / energy[t], .dynamic = sums[t].dynamic / energy[t]};
    }
  }
  return errors;
}

}  // namespace mezzotint
