// Small floating tensors, widened.
#pragma once

#include "mezzotint/tensor.h"

namespace mezzotint {

// F32, BF16 or F16 -> F32 (a copy unless it is F32 already). Throws Error(kUnsupported) otherwise.
Tensor to_f32(const Tensor& tensor);

}  // namespace mezzotint
