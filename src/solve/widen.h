// Float tensors of any type to f32 and back. F64 is rounded once, half to even.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// The type of a tensor that the vector ops take: not F64, and its elements where C++ wants them.
std::optional<FloatType> vector_type(const Tensor& t);

// `values` elements of t from `first` on. t must be of a floating dtype.
void widen_range(const Tensor& t, int64_t first, std::span<float> values);
void widen_into(const Tensor& t, std::span<float> values);  // all of t
Tensor widened(const Tensor& t);                            // a new F32 tensor, same shape

// The largest magnitude of `count` elements from `first` on; NaN where there is one.
float amax_of_range(const Tensor& t, int64_t first, int64_t count);

// The reverse, half to even, into elements [first, first + size) of t.
void narrow_range(std::span<const float> values, const Tensor& t, int64_t first);

}  // namespace mezzotint
