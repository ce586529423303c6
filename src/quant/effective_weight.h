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

// Its parts. Code times scale: what meets the rounded x * mul_scale; and all rows of it, [n,k].
void code_row(const LinearParams& params, int64_t row, std::span<float> out);
Tensor code_values(const LinearParams& params, const ExecContext& ctx);
// out += up[row] down
void add_low_rank_row(const LinearParams& params, int64_t row, std::span<float> out);

// The weight scale of a static file, whose first step says it: deq_scale = input_scale *
// weight_scale.
float folded_scale(const LinearParams& params, int64_t row);

}  // namespace mezzotint
