// Scales of integer weights by search: a group that clips its largest weights a little rounds all
// others more finely.
#pragma once

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"
#include "solve/rtn.h"

namespace mezzotint {

enum class Symmetry : uint8_t { kSymmetric, kAsymmetric };

struct IntegerScales {
  Tensor scale;   // F32 [n] or [n,groups], rounded to bf16
  Tensor offset;  // likewise, integers; empty when symmetric
};

// Per row and group, of the ratios 1.0, 0.95, ... 0.5 of the full range (int4, symmetric: of -8 and
// 7 steps, and of 7 either way) the one with the least error: of the outputs where `gram` (F32
// [k,k], of the inputs) is there, else of the weights. The products of a group's own columns count;
// of groups above 256 columns the squares alone. w:[n,k], any float dtype, finite; element kInt8 or
// kInt4, symmetric codes of [-127,127] or
// [-8,7], asymmetric ones of [-128,127] or [-8,7]. The same for any number of threads.
IntegerScales search_integer_scales(const Tensor& w, Element element, const ScaleSharing& sharing,
                                    Symmetry symmetry, const Tensor* gram, const ExecContext& ctx);

// Codes on given scales, packed as round_to_nearest does.
Tensor integer_codes(const Tensor& w, Element element, int64_t groups, const IntegerScales& scales,
                     const ExecContext& ctx);

}  // namespace mezzotint
