#include "solve/static_range.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

constexpr int kBits = 8;
constexpr float kLowestCode = -128.0f;
constexpr float kHighestCode = 127.0f;
constexpr int kShrinkSteps = 48;  // candidates for one end, 1/16 octave apart
constexpr int kSweeps = 3;        // over both ends in turn

// The bf16 that is not below a positive float.
float bf16_at_least(float value) {
  const float rounded = round_to_bf16(value);
  if (rounded >= value) return rounded;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) + 0x10000u);
}

AffineParams params_of(float low, float high) {
  AffineParams params = affine_params(low, high, kBits, /*symmetric=*/false);
  params.scale = bf16_at_least(params.scale);
  const float below_zero = std::min(low, 0.0f);
  params.offset = std::clamp(std::nearbyint(-below_zero / params.scale) + kLowestCode, kLowestCode,
                             kHighestCode);
  return params;
}

// A bin that holds something, with the middle of what it may hold.
struct Bin {
  double value;
  double count;
};

std::vector<Bin> bins_of(const ValueRange& seen) {
  std::vector<Bin> bins;
  for (int64_t i = 0; i < 2 * kHistogramBins; ++i) {
    const int64_t count = seen.hist[static_cast<size_t>(i)];
    if (count == 0) continue;
    const int64_t bin = i % kHistogramBins;
    const double middle =
        bin == 0 ? 0.0 : 0.5 * (double{histogram_edge(bin)} + double{histogram_edge(bin + 1)});
    const double value =
        std::clamp(i < kHistogramBins ? middle : -middle, double{seen.min}, double{seen.max});
    bins.push_back({value, static_cast<double>(count)});
  }
  std::ranges::sort(bins, {}, &Bin::value);
  return bins;
}

double error_of(const std::vector<Bin>& bins, const AffineParams& params) {
  const double scale = params.scale;
  const double low = (kLowestCode - double{params.offset}) * scale;
  const double high = (kHighestCode - double{params.offset}) * scale;
  const double inside = scale * scale / 12;
  double sum = 0, count = 0;
  for (const Bin& bin : bins) {
    const double outside = std::max({low - bin.value, bin.value - high, 0.0});
    // Zero has a code of its own.
    const double rounding =
        std::abs(bin.value) < 0.5 * scale ? std::min(bin.value * bin.value, 3 * inside) : inside;
    sum += bin.count * (outside > 0 ? outside * outside : rounding);
    count += bin.count;
  }
  return count == 0 ? 0 : sum / count;
}

// The ends without half of the share on either side.
std::array<float, 2> percentile_ends(const std::vector<Bin>& bins) {
  double total = 0;
  for (const Bin& bin : bins) total += bin.count;
  const double tail = total * kClippedShare / 2;
  const auto end_of = [&](auto first, auto last) {
    double passed = 0;
    for (auto bin = first; bin != last; ++bin) {
      passed += bin->count;
      if (passed > tail) return static_cast<float>(bin->value);
    }
    return 0.0f;
  };
  return {end_of(bins.begin(), bins.end()), end_of(bins.rbegin(), bins.rend())};
}

AffineParams least_error(const ValueRange& seen, const std::vector<Bin>& bins) {
  std::array<float, 2> ends = {std::min(seen.min, 0.0f), std::max(seen.max, 0.0f)};
  AffineParams best = params_of(ends[0], ends[1]);
  double least = error_of(bins, best);
  // Both ends together first: of a symmetric range neither alone makes the scale much smaller.
  const std::array<float, 2> whole = ends;
  const auto try_ends = [&](const std::array<float, 2>& tried) {
    const AffineParams params = params_of(tried[0], tried[1]);
    const double error = error_of(bins, params);
    if (!(error < least)) return;
    least = error;
    best = params;
    ends = tried;
  };
  for (int step = 1; step <= kShrinkSteps; ++step) {
    const float ratio = std::exp2(-static_cast<float>(step) / 16);
    try_ends({whole[0] * ratio, whole[1] * ratio});
  }
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (const size_t end : {size_t{0}, size_t{1}}) {
      const std::array<float, 2> from = ends;
      for (int step = 1; step <= kShrinkSteps; ++step) {
        std::array<float, 2> tried = from;
        tried[end] = whole[end] * std::exp2(-static_cast<float>(step) / 16);
        try_ends(tried);
      }
    }
  }
  return best;
}

}  // namespace

AffineParams static_range(const ValueRange& seen, RangeRule rule) {
  MZ_CHECK(seen.min <= seen.max);
  if (seen.hist.empty() || rule == RangeRule::kMinMax) return params_of(seen.min, seen.max);
  const std::vector<Bin> bins = bins_of(seen);
  if (bins.empty()) return params_of(seen.min, seen.max);
  if (rule == RangeRule::kMse) return least_error(seen, bins);
  const std::array<float, 2> ends = percentile_ends(bins);
  return params_of(ends[0], ends[1]);
}

double static_range_error(const ValueRange& seen, const AffineParams& params) {
  MZ_CHECK(!seen.hist.empty());
  return error_of(bins_of(seen), params);
}

}  // namespace mezzotint
