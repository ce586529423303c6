// Transposes: v[i] lane j becomes v[j] lane i. And what stands output by output in a file as rows
// of the 32 outputs of a panel.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mezzotint::avx2 {

// One of the four equal steps: rows i and i + 8 interleaved.
[[gnu::always_inline]] inline void interleave_rows(const __m128i (&from)[16], __m128i (&to)[16]) {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    to[2 * i] = _mm_unpacklo_epi8(from[i], from[i + 8]);
    to[2 * i + 1] = _mm_unpackhi_epi8(from[i], from[i + 8]);
  }
}

// 16 x 16 bytes.
[[gnu::always_inline]] inline void transpose16(__m128i (&v)[16]) {
  __m128i t[16];
  interleave_rows(v, t);
  interleave_rows(t, v);
  interleave_rows(v, t);
  interleave_rows(t, v);
}

[[gnu::always_inline]] inline void transpose8(__m256 (&v)[8]) {
  constexpr int kLowerHalves = 0x20, kUpperHalves = 0x31;
  __m256 t[8];
  // t[4 g + j] holds in part p lane 4 p + j of the rows 4 g .. 4 g + 3.
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(v[g], v[g + 1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(v[g], v[g + 1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(v[g + 2], v[g + 3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(v[g + 2], v[g + 3]));
    t[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    t[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    t[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    t[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(t[j], t[4 + j], kLowerHalves);
    v[4 + j] = _mm256_permute2f128_ps(t[j], t[4 + j], kUpperHalves);
  }
}

// values:[columns][count], `stride` apart -> out:[count][32], zeros behind the columns. Asks for
// the next 32 columns.
[[gnu::always_inline]] inline void transpose_columns(const float* values, int64_t stride,
                                                     int64_t count, int64_t columns, float* out) {
  constexpr int64_t kColumns = 32, kStep = 8;
  for (int64_t first = 0; first < count; first += kStep) {
    const int64_t rest = count - first;
    const __m256i present =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(rest < kStep ? rest : kStep)),
                           _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    for (int64_t c = 0; c < kColumns; c += kStep) {
      __m256 v[kStep];
#pragma GCC unroll 8
      for (int64_t i = 0; i < kStep; ++i) {
        v[i] = c + i < columns ? _mm256_maskload_ps(values + (c + i) * stride + first, present)
                               : _mm256_setzero_ps();
        _mm_prefetch(values + (kColumns + c + i) * stride + first, _MM_HINT_T0);
      }
      transpose8(v);
#pragma GCC unroll 8
      for (int64_t i = 0; i < kStep; ++i) {
        if (i < rest) _mm256_store_ps(out + (first + i) * kColumns + c, v[i]);
      }
    }
  }
}

}  // namespace mezzotint::avx2
