// Gram matrices of activations, X^T X: what GPTQ weighs errors with.
#pragma once

#include <cstdint>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// gram += x^T x for x:[m,k] row-major, the lower triangle in tiles of columns; what stands above
// them is undefined until mirror_gram(). gram: F32 [k,k]. The sums over m are taken in one order
// whatever the number of threads.
void add_gram(std::span<const float> x, const Tensor& gram, const ExecContext& ctx);

// Copies the lower triangle to the upper one.
void mirror_gram(const Tensor& gram);

// The whole matrix of a sample of rows of any float dtype: F32 [k,k].
Tensor gram_of(const Tensor& rows, const ExecContext& ctx);

}  // namespace mezzotint
