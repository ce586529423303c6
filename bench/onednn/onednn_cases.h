// oneDNN's matmul on our shapes, in our interleaved passes. Built where CMake finds the library: a
// version 3 below MEZZOTINT_PEERS, else Debian's 2 (libdnnl-dev). No cases elsewhere.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// Paths onednn.X for those X of ours that are wanted: int8, bf16, f32; with version 3 also weights
// alone of low bits: w8a16, w4a16_g64, w4a16_g128. Weights are in the library's own order; int8 is
// the product of ready codes, scaled per output channel, with bias, to bf16 (f32 without AVX-512):
// this library has no fast product with a scale per row of x.
std::vector<Case> onednn_cases(const LinearShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
