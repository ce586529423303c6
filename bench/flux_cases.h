// Whole transformers as cases: attention, norms, GELU and all.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"

namespace mezzotint::bench {

// Random weights. One double and one single block of FLUX.1, 1024 image tokens (512 x 512 pixels)
// and 512 of text, the true widths: paths flux_f32, flux_bf16 and flux_w8a8_fp8 (W8A8_DYNAMIC in
// the linears of the blocks, FP8 attention, bf16 activations). A step of the demo model, 32
// samples: demo_f32, demo_bf16, demo_w8a8 (attention and activations f32) and demo_w8a8_fp8.
std::vector<Case> flux_cases(const CaseOptions& options);

}  // namespace mezzotint::bench
