// What the panel kernels of this folder share: broadcasts, and 16 columns of y as the caller's
// floats.
#pragma once

// g++ 12 warns about its own headers (PR 105593).
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

#include "numerics/quant_scheme.h"

#define MZ_PANEL [[gnu::always_inline]] inline

namespace mezzotint::avx512_vnni {

constexpr int64_t kLanes = 16;  // columns of one register of sums

MZ_PANEL __m512i broadcast_int(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}

MZ_PANEL __m512 broadcast_float(const void* p) {
  float value;
  __builtin_memcpy(&value, p, sizeof value);
  return _mm512_set1_ps(value);
}

// numerics/bf16.h, bf16_from_float, for 16 lanes.
MZ_PANEL __m256i to_bf16(__m512 y) {
  const __m512i bits = _mm512_castps_si512(y);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x00400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
  const __m512i kept = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, is_nan, quiet), 16);
  return _mm512_cvtepi32_epi16(kept);
}

MZ_PANEL void store16(char* y, FloatType type, __mmask16 mask, __m512 value) {
  switch (type) {
    case FloatType::kF32:
      _mm512_mask_storeu_ps(y, mask, value);
      return;
    case FloatType::kBF16:
      _mm256_mask_storeu_epi16(y, mask, to_bf16(value));
      return;
    case FloatType::kF16:
      _mm256_mask_storeu_epi16(
          y, mask, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      return;
  }
}

// Lanes of register v of a panel that are columns of the output.
MZ_PANEL __mmask16 column_mask(int64_t columns, int v) {
  const int64_t count = columns - v * kLanes;
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : (count <= 0 ? 0 : (1 << count) - 1));
}

}  // namespace mezzotint::avx512_vnni

#undef MZ_PANEL
