#include "kernels/reference/rows.h"
#include "numerics/float_type.h"
#include "numerics/int8.h"

namespace mezzotint::reference {
namespace {

float smoothed(const QuantizeRowsTile& tile, int64_t m, int64_t k) {
  const float x = load_float(tile.x, tile.x_type, m * tile.x_stride + k);
  return tile.mul == nullptr ? x : x * tile.mul[k];
}

// NaN when the row holds NaN.
float row_amax(const QuantizeRowsTile& tile, int64_t m) {
  float amax = 0.0f;
  for (int64_t k = 0; k < tile.k; ++k) {
    const float magnitude = absolute(smoothed(tile, m, k));
    if (is_nan(magnitude)) return magnitude;
    if (magnitude > amax) amax = magnitude;
  }
  return amax;
}

}  // namespace

void quantize_rows(const QuantizeRowsTile& tile) noexcept {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    const float scale = int8_token_scale(row_amax(tile, m));
    int8_t* q = tile.q + m * tile.q_stride;
    int32_t sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      q[k] = int8_code(smoothed(tile, m, k), scale);
      sum += q[k];
    }
    for (int64_t k = tile.k; k < tile.q_stride; ++k) q[k] = 0;
    tile.scale[m] = scale;
    tile.sum[m] = sum;
  }
}

}  // namespace mezzotint::reference
