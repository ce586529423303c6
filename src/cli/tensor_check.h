// Looks at the values of a tensor, whatever its type.
#pragma once

#include <string>

#include "mezzotint/tensor.h"

namespace mezzotint::cli {

// "2 NaN or infinite values, the first at [3,17]"; "" when all are finite or not floating.
std::string non_finite_values(const Tensor& tensor);

}  // namespace mezzotint::cli
