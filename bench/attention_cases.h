// Attentions as cases: what Attention::run does. FP8 rotates and quantizes q, k and v in the call.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// One sample, [1, tokens, heads, dim] as projections give it.
std::vector<Case> attention_cases(const AttentionCallShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
