// What quantization at run time does to activations, for searches: x becomes what a kernel would
// compute with.
#pragma once

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "quant/algorithm.h"

namespace mezzotint {

// x: F32 [m,k], changed in place. Static scales are those of the range of x itself.
void round_activations(const FileContract& contract, const Tensor& x, const ExecContext& ctx);

}  // namespace mezzotint
