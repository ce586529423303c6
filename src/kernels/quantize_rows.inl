// The activation quantizer for one ISA; the formulas are numerics/int8.h, the codes equal to the
// last bit. Included after that ISA's vec16.h, with MZ_ISA naming its namespace.

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"
#include "numerics/int4.h"
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
    amax = max_magnitude(amax, magnitude(smoothed(part, load_as(type, part, x, i), mul, i)));
  });
  return largest_lane(amax);
}

void zero_codes(int8_t* q, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) q[k] = 0;
}

// q = clamp(rne(x / scale + zero), low, high).
struct Codes {
  float scale, zero, low, high;
};

// The codes of a row of this largest magnitude. Without a zero point nothing is added to x / scale,
// which could only change -0 to 0.
Codes codes_of(const QuantizeRowsTile& tile, float amax) {
  if (tile.fixed != nullptr) {
    const float scale = is_finite(amax) ? tile.fixed->scale : 0.0f;
    return {scale, tile.fixed->zero_point, -kInt8Max - 1.0f, kInt8Max};
  }
  if (tile.element == Element::kInt4) {
    return {int4_token_scale(amax), 0.0f, -kInt4Max, kInt4Max};
  }
  return {int8_token_scale(amax), 0.0f, -kInt8Max, kInt8Max};
}

// q has room for whole blocks: its stride is a multiple of 64. Between integers it is the same to
// clamp and then to round.
template <typename Type>
int32_t quantize_row(Type type, const void* x, const float* mul, const Codes& codes, int64_t k,
                     int8_t* q) {
  auto sum = nearest_integers(splat(0.0f));
  for_each_block(k, [&](int64_t i, auto part) {
    const Vec v = smoothed(part, load_as(type, part, x, i), mul, i);
    const Vec t = v / splat(codes.scale) + splat(codes.zero);
    const auto code = nearest_integers(max_of(splat(codes.low), min_of(splat(codes.high), t)));
    store_int8(q + i, code);
    sum = sum + code;
  });
  // Lanes behind k read 0, whose code is the zero point.
  const int64_t behind = (kLanes - k % kLanes) % kLanes;
  return sum_lanes(sum) - static_cast<int32_t>(behind) * static_cast<int32_t>(codes.zero);
}

}  // namespace

void quantize_rows(const QuantizeRowsTile& tile) noexcept {
  with_float_type(tile.x_type, [&](auto type) {
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      const void* x =
          static_cast<const char*>(tile.x) + m * tile.x_stride * float_size(tile.x_type);
      int8_t* q = tile.q + m * tile.q_stride;
      const Codes codes = codes_of(tile, row_amax(type, x, tile.mul, tile.k));
      const bool has_codes = codes.scale > 0.0f;
      const float fixed_scale = has_codes ? 1.0f : kQuietNaN;
      tile.scale[m] = tile.fixed == nullptr ? codes.scale : fixed_scale;
      tile.sum[m] = has_codes ? quantize_row(type, x, tile.mul, codes, tile.k, q) : 0;
      zero_codes(q, has_codes ? tile.k : 0, tile.q_stride);
    }
  });
}

}  // namespace mezzotint::MZ_ISA
