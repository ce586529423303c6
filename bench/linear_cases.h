// Linears of random weights as cases: input and output, the quantization of x, bias and cast
// included; what Linear::run does.
#pragma once

#include <vector>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// Cases of one shape, all paths. One row of x walks cold weights, more rows find them hot.
std::vector<Case> linear_cases(const LinearShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
