// AMD's AOCL-DLP on our shapes, in our interleaved passes. Built where CMake finds a build of it
// below MEZZOTINT_PEERS. No cases elsewhere.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// Paths aocl_dlp.X for those X of ours that are wanted: int8, bf16, w4a16_g64, w4a16_g128. Weights
// are in the library's own order; x and y are bf16 (int8: x of ready codes), with bias. int8 scales
// each row of x and each output channel, as ours does: the one library here that can. It has no
// product of bf16 with int8 weights that keeps x as it is, and its f32 for two threads (5.2.2)
// executes an instruction of AVX512-FP16 on processors without it.
std::vector<Case> aocl_dlp_cases(const LinearShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
