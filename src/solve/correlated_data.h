// For tests and measurements: activations as transformers have them, correlated and with channels
// far larger than the others.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "mezzotint/tensor.h"

namespace mezzotint {

struct ActivationShape {
  int64_t rows = 0;
  int64_t k = 0;
  int64_t hidden = 0;         // independent directions below the noise
  int64_t outlier_every = 0;  // 0: none
  float outlier = 1.0f;       // the factor of those channels
};

// x = z B + 0.3 noise, z:[rows,hidden]; B depends on `mixing` alone, so that two calls with other
// seeds sample one distribution.
inline Tensor correlated_rows(const ActivationShape& shape, uint32_t mixing, uint32_t seed) {
  std::mt19937 mix(mixing), random(seed);
  std::normal_distribution<float> normal;
  const auto hidden = static_cast<size_t>(shape.hidden);
  const auto k = static_cast<size_t>(shape.k);
  std::vector<float> basis(hidden * k);
  const float unit = 1.0f / std::sqrt(static_cast<float>(hidden));
  std::ranges::generate(basis, [&] { return unit * normal(mix); });
  Tensor x = Tensor::allocate(DType::kF32, {shape.rows, shape.k});
  auto* out = x.mutable_data<float>();
  std::vector<float> z(hidden);
  for (int64_t row = 0; row < shape.rows; ++row, out += k) {
    std::ranges::generate(z, [&] { return normal(random); });
    for (size_t c = 0; c < k; ++c) out[c] = 0.3f * normal(random);
    for (size_t h = 0; h < hidden; ++h) {
      for (size_t c = 0; c < k; ++c) out[c] += z[h] * basis[h * k + c];
    }
    if (shape.outlier_every == 0) continue;
    for (size_t c = 0; c < k; c += static_cast<size_t>(shape.outlier_every))
      out[c] *= shape.outlier;
  }
  return x;
}

// Weights with heavier tails than normal ones.
inline Tensor heavy_weights(int64_t n, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::student_t_distribution<float> student(6.0f);
  Tensor w = Tensor::allocate(DType::kF32, {n, k});
  std::generate_n(w.mutable_data<float>(), w.size(), [&] { return 0.05f * student(random); });
  return w;
}

// || x (w - q)^T || / || x w^T ||, row by row in double.
inline double output_error(const Tensor& x, const Tensor& w, const std::vector<float>& q) {
  const auto k = static_cast<size_t>(x.dim(1));
  const auto n = static_cast<size_t>(w.dim(0));
  double noise = 0, signal = 0;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const float* values = x.data<float>() + static_cast<size_t>(row) * k;
    for (size_t i = 0; i < n; ++i) {
      const float* exact = w.data<float>() + i * k;
      const float* rounded = q.data() + i * k;
      float miss = 0, sum = 0;
      for (size_t c = 0; c < k; ++c) {
        miss += values[c] * (exact[c] - rounded[c]);
        sum += values[c] * exact[c];
      }
      noise += double{miss} * miss;
      signal += double{sum} * sum;
    }
  }
  return std::sqrt(noise / signal);
}

}  // namespace mezzotint
