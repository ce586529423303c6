// Bins of |x| for histograms of activations: bits 14..4 of its bf16, so 8 bins per octave.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr int64_t kHistogramBins = 2048;
inline constexpr int kHistogramShift = 16 + 4;  // of a float's bits: bf16 without its low 4

// Of a finite x. Its bf16 is rounded half to even first.
MZ_HD int64_t histogram_bin(float x) {
  return std::bit_cast<uint32_t>(absolute(round_to_bf16(x))) >> kHistogramShift;
}
static_assert(histogram_bin(0.0f) == 0 && histogram_bin(-1.0f) == histogram_bin(1.0f));
static_assert(histogram_bin(2.0f) == histogram_bin(1.0f) + 8);
static_assert(histogram_bin(1.12f) == histogram_bin(1.0f));
static_assert(histogram_bin(1.125f) == histogram_bin(1.0f) + 1);
static_assert(histogram_bin(-0x1.fep127f) < kHistogramBins);

// The smallest magnitude of a bin.
MZ_HD float histogram_edge(int64_t bin) {
  return std::bit_cast<float>(static_cast<uint32_t>(bin) << kHistogramShift);
}
static_assert(histogram_edge(histogram_bin(1.2f)) == 1.125f);

}  // namespace mezzotint
