// The float matrix a quantized layer stands for: E:[n,k] with y = x E^T + b before x is quantized.
#pragma once

#include <cstdint>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "quant/plan.h"

namespace mezzotint {

// Row i of E, smoothing folded in: E[i,k] = code * scale[i] * mul_scale[k], in f32, in this order.
void effective_row(const LinearParams& params, int64_t row, std::span<float> out);

inline constexpr double kExactSqnrDb = 999;  // E equals w: JSON has no infinity

// 10 log10(sum w^2 / sum (w - E)^2) of w:[n,k], any float dtype; kExactSqnrDb when they are equal.
// The result does not depend on the number of threads.
double weight_sqnr_db(const Tensor& w, const LinearParams& params, const ExecContext& ctx);

}  // namespace mezzotint
