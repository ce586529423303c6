// Scale and zero point for activations whose range is fixed before the run.
#pragma once

#include <cstdint>
#include <span>

#include "mezzotint/calibration.h"
#include "numerics/affine.h"
#include "numerics/histogram_bin.h"

namespace mezzotint {

inline constexpr double kClippedShare = 1e-4;  // of RangeRule::kPercentile

// What was seen of one tensor.
struct ValueRange {
  float min = 0;
  float max = 0;
  std::span<const int64_t> hist{};  // [2,kHistogramBins], negative values second; or empty
};

// int8 codes q = rne(x / scale + offset) of [-128,127] (numerics/int8.h). The scale is rounded up
// to bf16 before the offset is chosen. Without a histogram every rule is kMinMax.
AffineParams static_range(const ValueRange& seen, RangeRule rule);

// The expected squared error of one value under these: scale^2 / 12 inside of the range, the
// distance to its end outside. The histogram must be there.
double static_range_error(const ValueRange& seen, const AffineParams& params);

}  // namespace mezzotint
