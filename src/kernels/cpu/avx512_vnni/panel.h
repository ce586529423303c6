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

#include "kernels/cpu/avx512/to_bf16.h"
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

MZ_PANEL void store16(char* y, FloatType type, __mmask16 mask, __m512 value) {
  switch (type) {
    case FloatType::kF32:
      _mm512_mask_storeu_ps(y, mask, value);
      return;
    case FloatType::kBF16:
      _mm256_mask_storeu_epi16(
          y, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(avx512::to_bf16(value), 16)));
      return;
    case FloatType::kF16:
      _mm256_mask_storeu_epi16(
          y, mask, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      return;
  }
}

// A row of a whole panel, as bf16.
MZ_PANEL void store32_bf16(char* y, __m512 left, __m512 right) {
  alignas(64) static constexpr uint16_t kUpper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                      23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                      45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i upper = _mm512_load_si512(kUpper);
  _mm512_storeu_si512(
      y, _mm512_permutex2var_epi16(avx512::to_bf16(left), upper, avx512::to_bf16(right)));
}

// Lanes of register v of a panel that are columns of the output.
MZ_PANEL __mmask16 column_mask(int64_t columns, int v) {
  const int64_t count = columns - v * kLanes;
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : (count <= 0 ? 0 : (1 << count) - 1));
}

}  // namespace mezzotint::avx512_vnni

#undef MZ_PANEL
