// Linears of random weights: the shape, form and bytes of a layer that `mezzotint quantize` writes,
// without its values. For benchmarks, which ask what a layer costs before anything is converted.
#pragma once

#include <cstdint>
#include <string>

#include "base/cpu_features.h"
#include "mezzotint/linear.h"
#include "quant/algorithm.h"

namespace mezzotint {

struct RandomLinear {
  std::string algorithm;  // a name of list-algorithms in any case, or "float"
  int64_t n = 0;
  int64_t k = 0;
  int64_t group_size = 0;            // 0: the algorithm's own
  DType float_dtype = DType::kBF16;  // of the weight of a float layer: F32 or BF16
  HasBias bias = HasBias::kYes;
  uint32_t seed = 1;
};

// Throws Error(kUnsupported) for an algorithm that is not served.
Linear random_linear(const RandomLinear& what, Isa isa);

}  // namespace mezzotint
