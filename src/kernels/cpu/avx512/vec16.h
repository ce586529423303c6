// 16 floats as one zmm register. The three vec16.h have the same functions, and every function the
// same result to the last bit; float_ops.inl and quantize_rows.inl are written in them.
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

#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::avx512 {

struct Vec {
  __m512 v;
};

MZ_VEC Vec splat(float a) { return {_mm512_set1_ps(a)}; }
MZ_VEC Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
MZ_VEC void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }

MZ_VEC Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
MZ_VEC Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
MZ_VEC Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
MZ_VEC Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
// a < b ? a : b and a > b ? a : b: a NaN in b is kept.
MZ_VEC Vec min_of(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
MZ_VEC Vec max_of(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
MZ_VEC Vec round_half_even(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

MZ_VEC Vec magnitude(Vec a) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(INT32_MAX)))};
}
// The larger of two magnitudes by their bit patterns: NaN > infinity > finite.
MZ_VEC Vec max_magnitude(Vec a, Vec b) {
  return {
      _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}

// The largest of 16 magnitudes by their bit patterns.
MZ_VEC float largest_lane(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m256i m8 =
      _mm256_max_epi32(_mm512_castsi512_si256(bits), _mm512_extracti64x4_epi64(bits, 1));
  const __m128i m4 = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
  const __m128i m2 = _mm_max_epi32(m4, _mm_shuffle_epi32(m4, 0x4e));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(m2, _mm_shuffle_epi32(m2, 0xb1))));
}
// A float that has the exponent of the largest magnitude of 32.
MZ_VEC float largest_binade(Vec a, Vec b) {
  return largest_lane(max_magnitude(magnitude(a), magnitude(b)));
}
// a, but 0 for infinities and NaN.
MZ_VEC Vec finite_or_zero(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __mmask16 finite = _mm512_cmplt_epi32_mask(
      _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX)), _mm512_set1_epi32(0x7f800000));
  return {_mm512_maskz_mov_ps(finite, a.v)};
}

// a * 2^n for a of [0.5, 2], integral n of [-150, 128], rounded once.
MZ_VEC Vec scale_by_power(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

// Parts of attention, whose rows need not agree to the last bit: a * b + c rounded once, half to
// even for |a| <= 2^22, a * 2^n for n of [-127, 127] (0 for -127), |a| with a mantissa of 1.0.
MZ_VEC Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
MZ_VEC Vec round_small(Vec a) { return round_half_even(a); }
MZ_VEC Vec times_power(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
MZ_VEC Vec exponent_part(Vec a) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7f800000)))};
}

// Lane i with lane i ^ kDistance; 1, 2, 4 or 8.
template <int kDistance>
MZ_VEC Vec exchange_lanes(Vec a) {
  if constexpr (kDistance == 1) return {_mm512_permute_ps(a.v, 0xb1)};
  if constexpr (kDistance == 2) return {_mm512_permute_ps(a.v, 0x4e)};
  if constexpr (kDistance == 4) return {_mm512_shuffle_f32x4(a.v, a.v, 0xb1)};
  if constexpr (kDistance == 8) return {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
}

// Lane i with lane i + 8, then i + 4, i + 2, i + 1.
MZ_VEC float sum_lanes(Vec a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

// 16 integers.
struct Integers {
  __m512i v;
};
MZ_VEC Integers nearest_integers(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }  // half to even
MZ_VEC Integers operator+(Integers a, Integers b) { return {_mm512_add_epi32(a.v, b.v)}; }
MZ_VEC int32_t sum_lanes(Integers a) { return _mm512_reduce_add_epi32(a.v); }

// How many lanes are below low or above high.
MZ_VEC int32_t lanes_outside(Vec a, Vec low, Vec high) {
  const __mmask16 outside =
      _mm512_cmp_ps_mask(a.v, low.v, _CMP_LT_OQ) | _mm512_cmp_ps_mask(a.v, high.v, _CMP_GT_OQ);
  return __builtin_popcount(outside);
}

// 16 sums in double. Products of floats are exact in double.
struct Doubles {
  __m512d lo, hi;
};
MZ_VEC Doubles zero_doubles() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
MZ_VEC __m512d lower_doubles(Vec a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a.v)); }
MZ_VEC __m512d upper_doubles(Vec a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1)); }
// sum += a * b
MZ_VEC void add_products(Vec a, Vec b, Doubles& sum) {
  sum.lo = _mm512_fmadd_pd(lower_doubles(a), lower_doubles(b), sum.lo);
  sum.hi = _mm512_fmadd_pd(upper_doubles(a), upper_doubles(b), sum.hi);
}
// As sum_lanes.
MZ_VEC double sum_doubles(const Doubles& a) {
  const __m512d s8 = _mm512_add_pd(a.lo, a.hi);
  const __m256d s4 = _mm256_add_pd(_mm512_castpd512_pd256(s8), _mm512_extractf64x4_pd(s8, 1));
  const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

// a b - product, exact where product is a b rounded.
MZ_VEC Vec product_error(Vec a, Vec b, Vec product) {
  return {_mm512_fmsub_ps(a.v, b.v, product.v)};
}

// (x0, x1), (x2, x3), ... -> (x1, x0), (x3, x2), ...
MZ_VEC Vec swap_pairs(Vec a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
// c0 .. c7 -> c0, c0, c1, c1, ...
MZ_VEC Vec load_doubled(const float* p) {
  const __m512i lane = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return {_mm512_permutexvar_ps(lane, _mm512_castps256_ps512(_mm256_loadu_ps(p)))};
}
// -a in even lanes.
MZ_VEC Vec negate_even(Vec a) {
  const __m512i sign = _mm512_set1_epi64(0x80000000LL);
  return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a.v), sign))};
}

MZ_VEC Vec load_int8(const int8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
// Of [-128, 127].
MZ_VEC void store_int8(int8_t* p, Integers a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

// numerics/e4m3.h, values and codes; half to even, saturating.
//
// The value of e4m3_from_float(a). For |a| of [2^e, 2^(e+1)), e >= -6, one unit of e4m3 is 2^(e-3);
// 1.5 * 2^(e+20) has that unit in its last place, so that adding it rounds.
MZ_VEC Vec round_e4m3(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
  const __m512 magnitude =
      _mm512_min_ps(_mm512_set1_ps(448.0f), _mm512_castsi512_ps(_mm512_xor_si512(bits, sign)));
  const __m512 binade = _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(magnitude), _mm512_set1_epi32(0x7f800000)));
  const __m512 unit_place =
      _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(0x1p-6f), binade), _mm512_set1_ps(0x1.8p20f));
  const __m512 rounded = _mm512_sub_ps(_mm512_add_ps(magnitude, unit_place), unit_place);
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(rounded), sign))};
}
// A code without its sign, read as the upper bits of a float, is 2^-120 of its value.
MZ_VEC Vec load_e4m3(const uint8_t* p) {
  const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
  const __m512i sign = _mm512_slli_epi32(_mm512_xor_si512(code, magnitude), 24);
  const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)),
                                     _mm512_set1_ps(0x1p120f));
  const __m512i with_sign = _mm512_or_si512(_mm512_castps_si512(value), sign);
  const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
  return {
      _mm512_castsi512_ps(_mm512_mask_mov_epi32(with_sign, is_nan, _mm512_set1_epi32(0x7fc00000)))};
}
// 2^-8 of the values of codes that are not NaN: what they mean with their bits in binary16's
// places.
MZ_VEC Vec load_small_e4m3(const uint8_t* p) {
  const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(codes, 7),
                                           _mm256_set1_epi16(static_cast<int16_t>(0xbf80))))};
}
MZ_VEC __m512i e4m3_codes(Vec a) {
  const __m512i bits = _mm512_castps_si512(round_e4m3(a).v);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX));
  const __m512 upper = _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p-120f));
  const __m512i sign = _mm512_srli_epi32(_mm512_xor_si512(bits, magnitude), 24);
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(upper), 20), sign);
}
MZ_VEC void store_e4m3(uint8_t* p, Vec a) {
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm512_cvtepi32_epi8(_mm512_mask_mov_epi32(e4m3_codes(a), is_nan, _mm512_set1_epi32(0x7f))));
}
// Of numbers below 2^16, which is all that a block holds beside its scale.
MZ_VEC void store_small_e4m3(uint8_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(e4m3_codes(a)));
}

// numerics/e2m1.h, half to even, saturating; a is not NaN. Units as in round_e4m3, the smallest
// 0.5; twice a rounded magnitude is one of the integers 0..12 that the table turns into codes.
MZ_VEC void store_small_e2m1(uint8_t* p, Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512 magnitude =
      _mm512_min_ps(_mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX))),
                    _mm512_set1_ps(6.0f));
  const __m512 binade = _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(magnitude), _mm512_set1_epi32(0x7f800000)));
  const __m512 unit_place =
      _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(1.0f), binade), _mm512_set1_ps(0x1.8p22f));
  const __m512 rounded = _mm512_sub_ps(_mm512_add_ps(magnitude, unit_place), unit_place);
  const __m128i doubled = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_add_ps(rounded, rounded)));
  const __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7, 0, 0, 0);
  const __m128i code = _mm_shuffle_epi8(table, doubled);
  const __mmask16 negative = _mm512_movepi32_mask(bits);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_mask_add_epi8(code, negative, code, _mm_set1_epi8(8)));
}

MZ_VEC Vec load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
MZ_VEC void store_bf16(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(to_bf16(a.v), 16)));
}

// 16 pairs -> the first and the second of each.
MZ_VEC void load_bf16_pairs(const uint16_t* p, Vec& first, Vec& second) {
  const __m512i pairs = _mm512_loadu_si512(p);
  first.v = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  second.v = _mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
// 16 words of eight int4 codes, and the codes that stand above bit `shift`.
using Int4Words = __m512i;
MZ_VEC Int4Words load_int4_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
MZ_VEC Vec int4_of(Int4Words words, int shift) {
  const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
  // The permutation reads the low four bits only.
  return {_mm512_permutexvar_ps(_mm512_srli_epi32(words, static_cast<unsigned>(shift)), values)};
}

MZ_VEC Vec load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
MZ_VEC void store_f16(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

}  // namespace mezzotint::avx512

#undef MZ_VEC
