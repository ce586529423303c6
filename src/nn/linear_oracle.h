// For tests: what a quantized linear must give, computed in double from the tensors of a file,
// without the library's loader, plans or kernels.
//
// Sources: spec of W8A16 (y = x ((w + offset) scale)^T + b) and W8A8_DYNAMIC (per-token symmetric
// int8, s = amax * f32(1/127), q = rne(x / s)); smoothing x * mul_scale in f32 comes first.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "quant/algorithm.h"
#include "solve/widen.h"

namespace mezzotint {

struct OracleResult {
  std::vector<double> y;      // [m,n]
  std::vector<double> bound;  // of the absolute error of y
};

namespace linear_oracle {

constexpr double kUnit = 0x1p-24;  // half an ulp of f32, relative

inline const Tensor* find(const LayerTensors& tensors, const std::string& suffix) {
  for (const NamedTensor& t : tensors) {
    if (t.name.ends_with("." + suffix)) return &t.tensor;
  }
  return nullptr;
}

inline std::vector<float> floats(const Tensor* tensor, size_t size, float otherwise) {
  if (tensor == nullptr) return std::vector<float>(size, otherwise);
  std::vector<float> values(static_cast<size_t>(tensor->size()));
  widen_into(*tensor, values);
  if (values.size() == 1) values.resize(size, values[0]);  // one scale for every row
  return values;
}

// Half an ulp of the output, relative, and of its smallest values, absolute.
inline double output_rounding(DType dtype, double y) {
  if (dtype == DType::kBF16) return 0x1p-8 * std::abs(y);
  if (dtype == DType::kF16) return 0x1p-11 * std::abs(y) + 0x1p-25;
  return 0;
}

// Codes and scale of one smoothed row.
inline float quantize_row(const std::vector<float>& x, std::vector<int>& codes) {
  float amax = 0;
  for (const float v : x) amax = std::max(amax, std::abs(v));
  const float scale = amax * static_cast<float>(1.0 / 127.0);
  for (size_t k = 0; k < x.size(); ++k) {
    codes[k] = scale == 0 ? 0 : static_cast<int>(std::nearbyint(x[k] / scale));
  }
  return scale;
}

}  // namespace linear_oracle

// x:[m,k], already of values that `dtype` holds exactly.
inline OracleResult oracle_linear(const std::string& algorithm, const LayerTensors& tensors,
                                  const std::vector<float>& x, int64_t m, DType dtype) {
  using namespace linear_oracle;
  const Tensor& weight = *find(tensors, "weight");
  const auto n = static_cast<size_t>(weight.dim(0));
  const auto k = static_cast<size_t>(weight.dim(1));
  const int8_t* w = weight.data<int8_t>();
  const std::vector<float> scale = floats(find(tensors, "weight_scale"), n, 0);
  const std::vector<float> offset = floats(find(tensors, "weight_offset"), n, 0);
  const std::vector<float> bias = floats(find(tensors, "bias"), n, 0);
  const std::vector<float> mul = floats(find(tensors, "div.mul_scale"), k, 1);
  const bool quantizes_x = algorithm == "W8A8_DYNAMIC";
  const bool exact = quantizes_x && std::ranges::all_of(offset, [](float v) { return v == 0; });
  OracleResult result;
  std::vector<float> row(k);
  std::vector<int> codes(k);
  for (size_t i = 0; i < static_cast<size_t>(m); ++i) {
    for (size_t j = 0; j < k; ++j) row[j] = x[i * k + j] * mul[j];
    const double x_scale = quantizes_x ? quantize_row(row, codes) : 1.0;
    for (size_t o = 0; o < n; ++o) {
      double sum = 0;
      double magnitude = 0;
      for (size_t j = 0; j < k; ++j) {
        const double value = quantizes_x ? codes[j] : static_cast<double>(row[j]);
        sum += value * (w[o * k + j] - static_cast<double>(offset[o]));
        magnitude += std::abs(value) * (std::abs(w[o * k + j]) + std::abs(offset[o]));
      }
      const double factor = scale[o] * x_scale;
      const double y = sum * factor + bias[o];
      // Integer sums are exact: conversion, two products, one sum. Float ones round k times more.
      const double roundings = exact ? 4 * std::abs(sum) : (static_cast<double>(k) + 6) * magnitude;
      result.y.push_back(y);
      result.bound.push_back(kUnit * (roundings * factor + std::abs(y)) +
                             output_rounding(dtype, y) + 0x1p-126);
    }
  }
  return result;
}

// The number of outputs outside the bound; 0 is a pass.
inline int64_t misses(const OracleResult& expected, const Tensor& y) {
  std::vector<float> got(static_cast<size_t>(y.size()));
  widen_into(y, got);
  int64_t count = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - expected.y[i]) <= expected.bound[i])) ++count;
  }
  return count;
}

}  // namespace mezzotint
