// A Flux model that computes the same as another, with outlier channels in front of its linears.
//
//   write_outlier_variant(WeightStore::open("demo"), "build/demo/outlier_model", {});
//
// Small models have mild activations, in which plain rounding, rotation and low-rank correction
// look alike. In large ones a few channels are tens of times larger than the rest (Dettmers et al.,
// "LLM.int8()", 2022). Here a few channels of a tensor are multiplied by a power of two `factor`
// and the weight columns that read them are divided by it:
//
//   adaLN         1 + scale and shift of a channel: the rows of both chunks of norm*.linear, whose
//                 scale bias b becomes factor b + (factor - 1); columns of all linears behind it
//   attention     rows of to_v (and add_v_proj); columns of to_out.0 and to_add_out, or of proj_out
//
// All weights stay exact in bf16; a scale bias that does not is stored as F32. Twin, with other
// random channels: tools/demo_model/make_outlier_variant.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "mezzotint/weights.h"

namespace mezzotint {

struct OutlierOptions {
  float factor = 16.0f;    // a power of two above 1
  double fraction = 0.03;  // of the channels of a site, at least one
  uint64_t seed = 3;
};

// Writes config.json and one weight file. The same bytes for the same source and options. Throws
// Error(kUsage) for options out of range, Error(kUnsupported) for a weight that is not exact.
void write_outlier_variant(const WeightStore& source, const std::filesystem::path& folder,
                           const OutlierOptions& options);

// The channels of a site, ascending: those of the smallest first words of philox4x32_10 with key =
// seed and counter = (channel, site, 0, 0). Sites are counted in the order of the forward pass.
std::vector<int64_t> outlier_channels(int64_t width, uint32_t site, const OutlierOptions& options);

}  // namespace mezzotint
