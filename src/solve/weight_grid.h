// The values that a quantized weight may take once its scales are fixed: what GPTQ rounds to.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "numerics/affine.h"
#include "numerics/dual_level.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/mx.h"

namespace mezzotint {

struct GridPoint {
  uint8_t code;  // one per byte: an integer in two's complement, or an MX element
  float value;
};

// The nearest point of element [row, k]; `grid` is a WeightView without codes.
inline GridPoint integer_point(const WeightView& grid, int64_t row, int64_t k, float w) {
  const int64_t at = grid.group == 0 ? row : row * (grid.k / grid.group) + k / grid.group;
  const float scale = grid.scale[at];
  if (grid.offset != nullptr) {
    const AffineParams params = {.scale = scale, .offset = grid.offset[at]};
    const int code = affine_code(w, params, grid.element == Element::kInt4 ? 4 : 8);
    return {static_cast<uint8_t>(code), affine_value(code, params)};
  }
  const int code = grid.element == Element::kInt4 ? int4_code(w, scale) : int8_code(w, scale);
  return {static_cast<uint8_t>(code), static_cast<float>(code) * scale};
}

inline GridPoint mx_point(const WeightView& grid, int64_t row, int64_t k, float w) {
  const uint8_t byte = grid.block_scale[row * mx_blocks(grid.k) + k / kMxBlock];
  float dual = 1.0f;
  if (grid.dual_scale != nullptr) {
    dual = grid.dual_scale[row * dual_blocks(grid.k) + k / kDualBlock];
    w = dual_inner(w, dual);
  }
  const uint8_t code = mx_code(w, byte, grid.element, Rounding::kHalfEven);
  return {code, mx_value(code, byte, grid.element) * dual};
}

inline GridPoint nearest_point(const WeightView& grid, int64_t row, int64_t k, float w) {
  return grid.block_scale == nullptr ? integer_point(grid, row, k, w) : mx_point(grid, row, k, w);
}

}  // namespace mezzotint
