// The activation quantizer for one ISA; the formulas are numerics/int8.h, the codes equal to the
// last bit. Included after that ISA's vec16.h, with MZ_ISA naming its namespace.

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"
#include "numerics/int8.h"

namespace mezzotint::MZ_ISA {
namespace {

// Applies x * mul where there is a mul.
template <typename Part>
[[gnu::always_inline]] inline Vec smoothed(Part part, Vec x, const float* mul, int64_t i) {
  return mul == nullptr ? x : x * load_lanes(part, mul + i, 0.0f);
}

template <typename Type>
float row_amax(Type type, const void* x, const float* mul, int64_t k) {
  Vec amax = splat(0.0f);
  for_each_block(k, [&](int64_t i, auto part) {
    amax = max_magnitude(amax, smoothed(part, load_as(type, part, x, i), mul, i));
  });
  return largest_lane(amax);
}

void zero_codes(int8_t* q, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) q[k] = 0;
}

// q has room for whole blocks: its stride is a multiple of 64.
template <typename Type>
int32_t quantize_row(Type type, const void* x, const float* mul, float scale, int64_t k,
                     int8_t* q) {
  Vec sum = splat(0.0f);  // exact: 127 * k / 16 < 2^24
  for_each_block(k, [&](int64_t i, auto part) {
    const Vec v = smoothed(part, load_as(type, part, x, i), mul, i);
    const Vec rounded = round_half_even(v / splat(scale));
    const Vec code = max_of(splat(-kInt8Max), min_of(splat(kInt8Max), rounded));
    store_int8(q + i, code);
    sum = sum + code;
  });
  return sum_integers(sum);
}

}  // namespace

void quantize_rows(const QuantizeRowsTile& tile) noexcept {
  with_float_type(tile.x_type, [&](auto type) {
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      const void* x =
          static_cast<const char*>(tile.x) + m * tile.x_stride * float_size(tile.x_type);
      int8_t* q = tile.q + m * tile.q_stride;
      const float scale = int8_token_scale(row_amax(type, x, tile.mul, tile.k));
      const bool has_codes = scale > 0.0f;
      tile.scale[m] = scale;
      tile.sum[m] = has_codes ? quantize_row(type, x, tile.mul, scale, tile.k, q) : 0;
      zero_codes(q, has_codes ? tile.k : 0, tile.q_stride);
    }
  });
}

}  // namespace mezzotint::MZ_ISA
