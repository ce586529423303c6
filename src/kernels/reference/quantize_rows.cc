#include "kernels/reference/rows.h"
#include "numerics/float_type.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/upstream.h"

namespace mezzotint::reference {
namespace {

float smoothed(const QuantizeRowsTile& tile, int64_t m, int64_t k) {
  const float x = load_float(tile.x, tile.x_type, m * tile.x_stride + k);
  if (tile.mul == nullptr) return x;
  return tile.compat == Compat::kUpstream ? upstream_smoothed(x, tile.mul[k], tile.x_type)
                                          : x * tile.mul[k];
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

// The scale by which the row's codes are multiplied behind the sum.
float row_scale(const QuantizeRowsTile& tile, float amax) {
  if (tile.fixed != nullptr) return is_finite(amax) ? 1.0f : kQuietNaN;
  return tile.element == Element::kInt4 ? int4_token_scale(amax) : int8_token_scale(amax);
}

int8_t code_of(const QuantizeRowsTile& tile, float x, float scale) {
  if (tile.fixed != nullptr) {
    const float fixed = tile.compat == Compat::kUpstream
                            ? upstream_input_scale(tile.fixed->scale, tile.x_type)
                            : tile.fixed->scale;
    return int8_static_code(x, fixed, tile.fixed->zero_point);
  }
  return tile.element == Element::kInt4 ? int4_code(x, scale) : int8_code(x, scale);
}

}  // namespace

void quantize_rows(const QuantizeRowsTile& tile) noexcept {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    const float scale = row_scale(tile, row_amax(tile, m));
    int8_t* q = tile.q + m * tile.q_stride;
    int32_t sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      q[k] = !is_nan(scale) ? code_of(tile, smoothed(tile, m, k), scale) : int8_t{0};
      sum += q[k];
    }
    for (int64_t k = tile.k; k < tile.q_stride; ++k) q[k] = 0;
    tile.scale[m] = scale;
    tile.sum[m] = sum;
  }
}

}  // namespace mezzotint::reference
