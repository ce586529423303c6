// Weights by the rules of upstream's exporter, bit for bit (docs/compatibility.md).
#pragma once

#include <cstdint>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"
#include "solve/mx_weights.h"

namespace mezzotint {

// w ~ (code - offset) * scale.
struct UpstreamInteger {
  Tensor codes;   // I8 [n,k]; int4: U8 [n,(k+1)/2], low nibble = even k
  Tensor scale;   // F32 [n] or [n,groups], not rounded, at least 2^-23 (numerics/affine.h)
  Tensor offset;  // F32, like scale; zeros when symmetric
};

// w:[n,k] of any float dtype, finite; scheme: kInt8 or kInt4, one scale per tensor, channel or
// group. The result does not depend on the number of threads.
UpstreamInteger upstream_integer_weight(const Tensor& w, const QuantScheme& scheme,
                                        const ExecContext& ctx);

// element kE4M3 or kE2M1: numerics/upstream.h; dual level: numerics/dual_level.h,
// dual_weight_scale.
MxWeight upstream_mx_weight(const Tensor& w, Element element, MxLevels levels,
                            const ExecContext& ctx);

}  // namespace mezzotint
