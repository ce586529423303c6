// Weights as MX blocks: the best of three exponents per block of 32.
#pragma once

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

enum class MxLevels : uint8_t {
  kOne,
  kDual,          // the scale of 512 columns is their amax / 6
  kSearchedDual,  // or up to an octave above it: of 16 steps the one with the least squared error
};

// w ~ element * 2^(byte - 127) * dual.
struct MxWeight {
  Tensor codes;        // F8_E4M3 [n,k], or U8 [n,(k+1)/2] of e2m1, low nibble = even k
  Tensor block_scale;  // U8 [n, blocks of 32]
  Tensor dual_scale;   // F32 [n, blocks of 512]; empty with one level
};

// w:[n,k] of any float dtype; element kE4M3 or kE2M1. A block with a value that is not finite has
// the byte of NaN and codes 0 (with two levels the 16 blocks of its 512). Per block the best of
// three exponents (WeightOps::mx_codes); elements half to even. kDual: w / (amax512 / 6) first, and
// where 512 columns are zero the scales 0 and 2^0. The result does not depend on the number of
// threads.
MxWeight quantize_mx_weight(const Tensor& w, Element element, MxLevels levels,
                            const ExecContext& ctx);

}  // namespace mezzotint
