// What MX blocks leave of a weight: every value minus the one that its code stands for. For solvers
// that fit something else to it and do not need the codes.
//
//   double squares = take_mx_misses(active_isa())(row, Element::kE2M1, k);
//
// Codes and scales are those of WeightOps::mx_codes. One source (mx_misses.inl) is compiled for
// each ISA that has a row, and every row gives the same bits. No state.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// Replaces w[0..n), which begins at a block, and returns the sum of the squares: that of
// WeightOps::mx_error. Element kE2M1 or kE4M3. A block with a value that is not finite becomes NaN,
// as does the sum.
using TakeMxMissesFn = double (*)(float* w, Element element, int64_t n) noexcept;

TakeMxMissesFn take_mx_misses(Isa isa);  // the best at or below isa

}  // namespace mezzotint
