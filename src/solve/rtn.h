// Round-to-nearest quantization of a weight matrix: every element on its own, one scale per row.
#pragma once

#include <cstdint>
#include <optional>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// Where the result goes; not owned.
struct Int8Rows {
  int8_t* codes = nullptr;  // [n,k]
  float* scale = nullptr;   // [n], rounded to bf16
};

// w:[n,k] F32, BF16, F16 or F64. Scale and codes by int8_channel_scale and int8_code
// (numerics/int8.h). The result does not depend on the number of threads. Returns the first row
// that holds inf or nan, if any; the output is then incomplete.
std::optional<int64_t> round_to_nearest_int8(const Tensor& w, const Int8Rows& out,
                                             const ExecContext& ctx);

}  // namespace mezzotint
