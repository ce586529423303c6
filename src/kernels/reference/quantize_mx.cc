#include <algorithm>

#include "kernels/reference/rows.h"
#include "numerics/dual_level.h"
#include "numerics/float_type.h"
#include "numerics/mx.h"
#include "numerics/upstream.h"

namespace mezzotint::reference {
namespace {

// [first, first + count) of row m, smoothed.
void load_block(const QuantizeMxTile& tile, int64_t m, int64_t first, int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t k = first + i;
    x[i] = load_float(tile.x, tile.x_type, m * tile.x_stride + k);
    if (tile.mul == nullptr) continue;
    x[i] = tile.compat == Compat::kUpstream ? upstream_smoothed(x[i], tile.mul[k], tile.x_type)
                                            : x[i] * tile.mul[k];
  }
}

// The largest finite magnitude: values that are not finite spoil their block of 32 alone.
float finite_amax(const float* x, int64_t count) {
  float amax = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    if (is_finite(x[i])) amax = std::max(amax, absolute(x[i]));
  }
  return amax;
}

void quantize_blocks(const QuantizeMxTile& tile, int64_t m, int64_t first, int64_t count,
                     const float* x) {
  for (int64_t i = 0; i < count; i += kMxBlock) {
    tile.block_scale[m * mx_blocks(tile.k) + (first + i) / kMxBlock] =
        mx_quantize_block(x + i, std::min(kMxBlock, count - i), tile.element, MxScaleRule::kFloor,
                          Rounding::kHalfEven, tile.q + m * tile.k + first + i);
  }
}

}  // namespace

void quantize_mx(const QuantizeMxTile& tile) noexcept {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    for (int64_t first = 0; first < tile.k; first += kDualBlock) {
      const int64_t count = std::min(kDualBlock, tile.k - first);
      float x[kDualBlock];
      load_block(tile, m, first, count, x);
      if (tile.dual_scale != nullptr) {
        const float scale = dual_scale(finite_amax(x, count));
        tile.dual_scale[m * dual_blocks(tile.k) + first / kDualBlock] = scale;
        for (int64_t i = 0; i < count; ++i) {
          x[i] = dual_inner(x[i], scale);
          if (tile.compat == Compat::kUpstream) x[i] = round_to(x[i], tile.x_type);
        }
      }
      quantize_blocks(tile, m, first, count, x);
    }
  }
}

}  // namespace mezzotint::reference
