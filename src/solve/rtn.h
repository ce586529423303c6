// Round-to-nearest quantization of a weight matrix: every element on its own.
#pragma once

#include <cstdint>
#include <optional>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// The first row of w:[n,k] (any float dtype) that holds inf or nan, if any.
std::optional<int64_t> first_row_not_finite(const Tensor& w, const ExecContext& ctx);

struct ScaleSharing {
  Granularity granularity = Granularity::kPerChannel;  // or kPerTensor
  int64_t groups = 0;                                  // along k, of one scale each; 0: one per row
};

// w ~ code * scale.
struct IntegerWeight {
  Tensor codes;  // I8 [n,k]; int4: U8 [n,(k+1)/2], low nibble = even k
  Tensor scale;  // F32 [n] or [n,groups], rounded to bf16
};

// w:[n,k] F32, BF16, F16 or F64, finite; element kInt8 or kInt4 (numerics/int8.h, int4.h). The
// result does not depend on the number of threads.
IntegerWeight round_to_nearest(const Tensor& w, Element element, const ScaleSharing& sharing,
                               const ExecContext& ctx);

}  // namespace mezzotint
