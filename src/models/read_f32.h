// Small floating tensors of a file, widened.
#pragma once

#include <string>

#include "mezzotint/tensor.h"
#include "mezzotint/weights.h"

namespace mezzotint {

// A new F32 tensor. Throws Error naming tensor and file when it is absent or not floating.
Tensor read_f32(const WeightStore& store, const std::string& name);

}  // namespace mezzotint
