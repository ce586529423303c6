// Eight columns of y as the caller's floats.
#pragma once

#include "kernels/cpu/avx2/vec16.h"
#include "kernels/ops.h"
#include "numerics/float_type.h"

namespace mezzotint::avx2 {

// p[0, count), zeros behind it.
[[gnu::always_inline]] inline __m256i load8(const int32_t* p, int64_t count) {
  if (count >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  alignas(32) int32_t lanes[8] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
}
[[gnu::always_inline]] inline __m256 load8(const float* p, int64_t count) {
  if (count >= 8) return _mm256_loadu_ps(p);
  alignas(32) float lanes[8] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return _mm256_load_ps(lanes);
}

// y[m, n .. n + 8), as far as the tile has these columns.
[[gnu::always_inline]] inline void store8(const LinearTile& tile, int64_t m, int64_t n,
                                          __m256 value) {
  const int64_t first = m * tile.y_stride + n;
  if (n + 8 <= tile.n_end && tile.y_type != FloatType::kF16) {
    if (tile.y_type == FloatType::kF32) {
      _mm256_storeu_ps(static_cast<float*>(tile.y) + first, value);
    } else {
      const __m256i words = bf16_words(value);
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(static_cast<uint16_t*>(tile.y) + first),
          _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    return;
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, value);
  for (int64_t j = 0; j < 8 && n + j < tile.n_end; ++j) {
    store_float(lanes[j], tile.y, tile.y_type, first + j);
  }
}

// What the integer sums of eight columns become (numerics/int8.h, int8_output).
struct Int8Columns {
  __m256i acc_bias;
  __m256 w_scale, bias;
};
[[gnu::always_inline]] inline Int8Columns int8_columns(const LinearTile& tile, int64_t n) {
  const int64_t count = tile.n_end - n;
  return {tile.acc_bias == nullptr ? _mm256_setzero_si256() : load8(tile.acc_bias + n, count),
          load8(tile.w_scale + n, count),
          tile.bias == nullptr ? _mm256_setzero_ps() : load8(tile.bias + n, count)};
}
[[gnu::always_inline]] inline void write_int8(const LinearTile& tile, int64_t m, int64_t n,
                                              const Int8Columns& columns, __m256i acc) {
  const __m256 sum = _mm256_cvtepi32_ps(_mm256_add_epi32(acc, columns.acc_bias));
  const __m256 scaled =
      _mm256_mul_ps(_mm256_mul_ps(sum, columns.w_scale), _mm256_set1_ps(tile.x_scale[m]));
  store8(tile, m, n, _mm256_add_ps(scaled, columns.bias));
}

}  // namespace mezzotint::avx2
