// Data for kernel tests: fixed seeds, with the values that break kernels. Tests only.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/registry.h"
#include "numerics/float_type.h"

namespace mezzotint::testing_data {

// Normal values with exact zeros, denormals and outliers x1000 strewn in.
inline std::vector<float> floats(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) {
    v = normal(rng);
    const uint32_t kind = rng() % 100;
    if (kind < 3) v = 0.0f;
    if (kind == 3) v *= 1e-41f;  // denormal
    if (kind == 4) v *= 1000.0f;
  }
  return values;
}

// Codes of the whole range, -128 included: a file may hold it.
inline std::vector<int8_t> codes(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<int8_t> values(static_cast<size_t>(count));
  for (int8_t& v : values) v = static_cast<int8_t>(rng() % 256);
  return values;
}

// The same values in an array of `type`.
inline std::vector<std::byte> as_type(const std::vector<float>& values, FloatType type) {
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(float_size(type)));
  for (size_t i = 0; i < values.size(); ++i) {
    store_float(values[i], bytes.data(), type, static_cast<int64_t>(i));
  }
  return bytes;
}

inline const LinearKernel* linear_row(std::string_view name) {
  for (const LinearKernel& row : linear_kernels()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

inline const QuantizeRowsKernel* quantize_rows_row(std::string_view name) {
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

inline float ulp_of(float value) {
  const float magnitude = std::fabs(value);
  return std::nextafter(magnitude, std::numeric_limits<float>::infinity()) - magnitude;
}

}  // namespace mezzotint::testing_data
