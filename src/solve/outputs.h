// Outputs of a linear and their distance, for searches.
#pragma once

#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// x w^T: F32 [m,n] of x:[m,k] and w:[n,k], both F32. The same bits for any number of threads.
Tensor outputs(const Tensor& x, const Tensor& w, const ExecContext& ctx);

// sum (a - b)^2 of two F32 tensors, or runs of floats, of one size.
double squared_distance(const Tensor& a, const Tensor& b);
double squared_distance(std::span<const float> a, std::span<const float> b);

}  // namespace mezzotint
