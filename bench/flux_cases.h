// One double and one single block of FLUX.1 as cases: attention, norms, GELU and all.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"

namespace mezzotint::bench {

// 1024 image tokens (512 x 512 pixels) and 512 of text, random weights, the true widths. Paths
// flux_f32, flux_bf16 and flux_w8a8_fp8: W8A8_DYNAMIC in the linears of the
// blocks, FP8 attention, bf16 activations.
std::vector<Case> flux_cases(const CaseOptions& options);

}  // namespace mezzotint::bench
