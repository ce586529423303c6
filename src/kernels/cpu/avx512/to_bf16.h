// Floats to bf16 for the rows of AVX-512.
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

// numerics/bf16.h, bf16_from_float, for 16 lanes: in the upper halves of words.
[[gnu::always_inline]] inline __m512i to_bf16(__m512 y) {
  const __m512i bits = _mm512_castps_si512(y);
  const __mmask16 is_odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
  const __m512i half = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_mask_add_epi32(half, is_odd, half, _mm512_set1_epi32(1));
  return _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x00400000));
}

}  // namespace mezzotint::avx512
