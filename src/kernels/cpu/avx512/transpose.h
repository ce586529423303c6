// 16 x 16 transposes: v[i] lane j becomes v[j] lane i.
#pragma once

// g++ 12 warns about its own headers (PR 105593).
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace mezzotint::avx512 {

// One of the four equal steps: rows i and i + 8 interleaved.
[[gnu::always_inline]] inline void interleave_rows(const __m128i (&from)[16], __m128i (&to)[16]) {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    to[2 * i] = _mm_unpacklo_epi8(from[i], from[i + 8]);
    to[2 * i + 1] = _mm_unpackhi_epi8(from[i], from[i + 8]);
  }
}

[[gnu::always_inline]] inline void transpose16(__m128i (&v)[16]) {
  __m128i t[16];
  interleave_rows(v, t);
  interleave_rows(t, v);
  interleave_rows(v, t);
  interleave_rows(t, v);
}

[[gnu::always_inline]] inline void transpose16(__m512 (&v)[16]) {
  constexpr int kEven = 0x88, kOdd = 0xdd;  // parts of 128 bits: 0 2 | 0 2 and 1 3 | 1 3
  __m512 t[16];
  // t[4 g + j] holds in part p lane 4 p + j of the rows 4 g .. 4 g + 3.
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[g], v[g + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[g], v[g + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[g + 2], v[g + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[g + 2], v[g + 3]));
    t[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    t[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    t[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    t[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(t[j], t[4 + j], kEven);
    const __m512 b = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], kEven);
    const __m512 c = _mm512_shuffle_f32x4(t[j], t[4 + j], kOdd);
    const __m512 d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], kOdd);
    v[j] = _mm512_shuffle_f32x4(a, b, kEven);
    v[4 + j] = _mm512_shuffle_f32x4(c, d, kEven);
    v[8 + j] = _mm512_shuffle_f32x4(a, b, kOdd);
    v[12 + j] = _mm512_shuffle_f32x4(c, d, kOdd);
  }
}

}  // namespace mezzotint::avx512
