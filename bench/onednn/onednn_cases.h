// oneDNN's matmul on our shapes, in our interleaved passes. Built where CMake finds the library
// (Debian: libdnnl-dev); no cases elsewhere.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// Paths onednn.int8, onednn.bf16 and onednn.f32, for those of int8, bf16 and f32 that are wanted.
// Weights are reordered before; int8 is the product of ready codes, scaled per output channel, with
// bias, to bf16: this library has no fast product with a scale per row of x.
std::vector<Case> onednn_cases(const LinearShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
