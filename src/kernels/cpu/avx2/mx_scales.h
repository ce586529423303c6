// Scales of MX blocks as rows of the 32 outputs of a panel.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/transpose.h"
#include "numerics/e8m0.h"

namespace mezzotint::avx2 {

// Whether a sum of products (at most 4608) times a scale of w stays in the floats, before the scale
// of x makes it smaller.
enum class Scales : uint8_t { kMild, kLarge };
constexpr int kLargestMildByte = 243;  // 4608 * 2^(243 - 128) < 2^128

// Half the scale: doubling both operands has multiplied by 4. 2^-128 of byte 0 is exact, too.
[[gnu::always_inline]] inline float half_scale(uint8_t byte) { return e8m0_to_float(byte) * 0.5f; }

// The same of 8 bytes, each of [2, 255], whose halves are normal numbers or NaN.
[[gnu::always_inline]] inline __m256 half_scales_of(__m128i bytes) {
  const __m256i wide = _mm256_cvtepu8_epi32(bytes);
  const __m256i bits = _mm256_slli_epi32(_mm256_sub_epi32(wide, _mm256_set1_epi32(1)), 23);
  const __m256i is_nan = _mm256_cmpeq_epi32(wide, _mm256_set1_epi32(kE8M0NaN));
  return _mm256_castsi256_ps(_mm256_or_si256(
      bits, _mm256_and_si256(is_nan, _mm256_set1_epi32(static_cast<int32_t>(0x7fc00000u)))));
}

// bytes:[columns][blocks], `stride` apart -> out:[blocks][32]; half of 1 behind the columns. Asks
// for the next 32 columns.
[[gnu::always_inline]] inline Scales half_scales(const uint8_t* bytes, int64_t stride,
                                                 int64_t blocks, int64_t columns, float* out) {
  constexpr int64_t kColumns = 32, kStep = 16;
  const __m128i two = _mm_set1_epi8(2);
  __m128i largest = _mm_setzero_si128();
  for (int64_t first = 0; first < blocks; first += kStep) {
    const int64_t count = blocks - first < kStep ? blocks - first : kStep;
    for (int64_t c = 0; c < kColumns; c += kStep) {
      __m128i v[kStep];
      __m128i least = _mm_set1_epi8(-1);
      for (int64_t i = 0; i < kStep; ++i) {
        v[i] = _mm_set1_epi8(kE8M0Bias);
        if (c + i >= columns) continue;
        const uint8_t* row = bytes + (c + i) * stride + first;
        _mm_prefetch(row + kColumns * stride, _MM_HINT_T0);
        if (count == kStep) {
          v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
        } else {
          __builtin_memcpy(&v[i], row, static_cast<size_t>(count));
        }
        largest = _mm_max_epu8(largest, v[i]);
        least = _mm_min_epu8(least, v[i]);
      }
      const bool has_small =
          _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(least, two), least)) != 0xffff;
      transpose16(v);
      for (int64_t i = 0; i < count; ++i) {
        float* place = out + (first + i) * kColumns + c;
        if (has_small) {
          alignas(16) uint8_t row[kStep];
          _mm_store_si128(reinterpret_cast<__m128i*>(row), v[i]);
          for (int64_t j = 0; j < kStep; ++j) place[j] = half_scale(row[j]);
          continue;
        }
        _mm256_store_ps(place, half_scales_of(v[i]));
        _mm256_store_ps(place + kStep / 2, half_scales_of(_mm_srli_si128(v[i], kStep / 2)));
      }
    }
  }
  alignas(16) uint8_t lanes[kStep];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes), largest);
  uint8_t most = 0;
  for (const uint8_t lane : lanes) most = lane > most ? lane : most;
  return most <= kLargestMildByte ? Scales::kMild : Scales::kLarge;
}

}  // namespace mezzotint::avx2
