// Tensors of normal values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "mezzotint/tensor.h"
#include "numerics/bf16.h"

namespace mezzotint::bench {

// F32 or BF16. Values are drawn once and picked at random: 100 M in a second.
inline Tensor random_tensor(DType dtype, const Shape& shape, uint32_t seed = 7) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size_t{1} << 16);
  std::ranges::generate(values, [&] { return normal(rng); });
  std::minstd_rand pick(seed);
  Tensor tensor = Tensor::allocate(dtype, shape);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const float value = values[pick() % values.size()];
    if (dtype == DType::kF32) {
      tensor.mutable_data<float>()[i] = value;
    } else {
      reinterpret_cast<uint16_t*>(tensor.buffer().mutable_data())[i] = bf16_from_float(value);
    }
  }
  return tensor;
}

}  // namespace mezzotint::bench
