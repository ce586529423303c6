// 16 floats as two ymm registers; see cpu/avx512/vec16.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::avx2 {

struct Vec {
  __m256 lo, hi;
};

MZ_VEC Vec splat(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
MZ_VEC Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
MZ_VEC void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}

MZ_VEC Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
MZ_VEC Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
MZ_VEC Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
MZ_VEC Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
MZ_VEC Vec min_of(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
MZ_VEC Vec max_of(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
MZ_VEC Vec round_half_even(Vec a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

MZ_VEC __m256 magnitude(__m256 a) {
  return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX)));
}
MZ_VEC Vec magnitude(Vec a) { return {magnitude(a.lo), magnitude(a.hi)}; }
MZ_VEC __m256 max_magnitude(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
MZ_VEC Vec max_magnitude(Vec a, Vec b) {
  return {max_magnitude(a.lo, b.lo), max_magnitude(a.hi, b.hi)};
}

MZ_VEC float largest_lane(Vec a) {
  const __m256i m8 = _mm256_max_epi32(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi));
  const __m128i m4 = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
  const __m128i m2 = _mm_max_epi32(m4, _mm_shuffle_epi32(m4, 0x4e));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(m2, _mm_shuffle_epi32(m2, 0xb1))));
}
MZ_VEC float largest_binade(Vec a, Vec b) {
  return largest_lane(max_magnitude(magnitude(a), magnitude(b)));
}
MZ_VEC __m256 finite_or_zero(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i finite = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x7f800000),
                                            _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX)));
  return _mm256_castsi256_ps(_mm256_and_si256(bits, finite));
}
MZ_VEC Vec finite_or_zero(Vec a) { return {finite_or_zero(a.lo), finite_or_zero(a.hi)}; }

MZ_VEC __m256 power_of_two(__m256 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
MZ_VEC Vec power_of_two(Vec n) { return {power_of_two(n.lo), power_of_two(n.hi)}; }
MZ_VEC Vec scale_by_power(Vec a, Vec n) {
  const Vec half = round_half_even(n * splat(0.5f));
  return a * power_of_two(half) * power_of_two(n - half);
}

MZ_VEC Vec multiply_add(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
MZ_VEC Vec round_small(Vec a) { return round_half_even(a); }
MZ_VEC Vec times_power(Vec a, Vec n) { return a * power_of_two(n); }
MZ_VEC Vec exponent_part(Vec a) {
  const __m256 exponent = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  return {_mm256_and_ps(a.lo, exponent), _mm256_and_ps(a.hi, exponent)};
}

template <int kDistance>
MZ_VEC Vec exchange_lanes(Vec a) {
  if constexpr (kDistance == 1) {
    return {_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
  }
  if constexpr (kDistance == 2) {
    return {_mm256_permute_ps(a.lo, 0x4e), _mm256_permute_ps(a.hi, 0x4e)};
  }
  if constexpr (kDistance == 4) {
    return {_mm256_permute2f128_ps(a.lo, a.lo, 1), _mm256_permute2f128_ps(a.hi, a.hi, 1)};
  }
  if constexpr (kDistance == 8) return {a.hi, a.lo};
}

MZ_VEC float sum_lanes(Vec a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

struct Integers {
  __m256i lo, hi;
};
MZ_VEC Integers nearest_integers(Vec a) {
  return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)};
}
MZ_VEC Integers operator+(Integers a, Integers b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
MZ_VEC int32_t sum_lanes(Integers a) {
  const __m256i s8 = _mm256_add_epi32(a.lo, a.hi);
  const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
  const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xb1)));
}

MZ_VEC int32_t outside_bits(__m256 a, __m256 low, __m256 high) {
  return _mm256_movemask_ps(
      _mm256_or_ps(_mm256_cmp_ps(a, low, _CMP_LT_OQ), _mm256_cmp_ps(a, high, _CMP_GT_OQ)));
}
MZ_VEC int32_t lanes_outside(Vec a, Vec low, Vec high) {
  const int32_t lower = outside_bits(a.lo, low.lo, high.lo);
  const int32_t upper = outside_bits(a.hi, low.hi, high.hi);
  return __builtin_popcount(static_cast<uint32_t>(lower | upper << 8));
}

struct Doubles {
  __m256d part[4];
};
MZ_VEC Doubles zero_doubles() {
  const __m256d zero = _mm256_setzero_pd();
  return {{zero, zero, zero, zero}};
}
MZ_VEC void add_products(__m128 a, __m128 b, __m256d& sum) {
  sum = _mm256_fmadd_pd(_mm256_cvtps_pd(a), _mm256_cvtps_pd(b), sum);
}
MZ_VEC void add_products(Vec a, Vec b, Doubles& sum) {
  add_products(_mm256_castps256_ps128(a.lo), _mm256_castps256_ps128(b.lo), sum.part[0]);
  add_products(_mm256_extractf128_ps(a.lo, 1), _mm256_extractf128_ps(b.lo, 1), sum.part[1]);
  add_products(_mm256_castps256_ps128(a.hi), _mm256_castps256_ps128(b.hi), sum.part[2]);
  add_products(_mm256_extractf128_ps(a.hi, 1), _mm256_extractf128_ps(b.hi, 1), sum.part[3]);
}
MZ_VEC double sum_doubles(const Doubles& a) {
  const __m256d s4 =
      _mm256_add_pd(_mm256_add_pd(a.part[0], a.part[2]), _mm256_add_pd(a.part[1], a.part[3]));
  const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

MZ_VEC Vec product_error(Vec a, Vec b, Vec product) {
  return {_mm256_fmsub_ps(a.lo, b.lo, product.lo), _mm256_fmsub_ps(a.hi, b.hi, product.hi)};
}

MZ_VEC Vec swap_pairs(Vec a) {
  return {_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
}
MZ_VEC Vec load_doubled(const float* p) {
  const __m256 c = _mm256_loadu_ps(p);
  return {_mm256_permutevar8x32_ps(c, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
          _mm256_permutevar8x32_ps(c, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
MZ_VEC Vec negate_even(Vec a) {
  const __m256 sign = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000LL));
  return {_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}

MZ_VEC Vec load_int8(const int8_t* p) {
  const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8)))};
}

// The low halves of 16 words of 32 bits; the words hold integers of [0, 65535].
MZ_VEC __m256i pack_words(__m256i lo, __m256i hi) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}
MZ_VEC void store_int8(int8_t* p, Integers a) {
  const __m256i q16 = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(q16), _mm256_extracti128_si256(q16, 1)));
}

MZ_VEC __m256 round_e4m3(__m256 a) {
  const __m256 sign = _mm256_and_ps(a, _mm256_set1_ps(-0.0f));
  const __m256 magnitude = _mm256_min_ps(_mm256_set1_ps(448.0f), _mm256_xor_ps(a, sign));
  const __m256 exponent = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  const __m256 binade = _mm256_max_ps(_mm256_set1_ps(0x1p-6f), _mm256_and_ps(magnitude, exponent));
  const __m256 unit_place = _mm256_mul_ps(binade, _mm256_set1_ps(0x1.8p20f));
  return _mm256_or_ps(_mm256_sub_ps(_mm256_add_ps(magnitude, unit_place), unit_place), sign);
}
MZ_VEC Vec round_e4m3(Vec a) { return {round_e4m3(a.lo), round_e4m3(a.hi)}; }

MZ_VEC __m256 e4m3_values(__m256i code) {
  const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(code, magnitude), 24);
  const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)),
                                     _mm256_set1_ps(0x1p120f));
  const __m256i is_nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f));
  return _mm256_blendv_ps(_mm256_or_ps(value, _mm256_castsi256_ps(sign)),
                          _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)),
                          _mm256_castsi256_ps(is_nan));
}
MZ_VEC Vec load_e4m3(const uint8_t* p) {
  const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {e4m3_values(_mm256_cvtepu8_epi32(code)),
          e4m3_values(_mm256_cvtepu8_epi32(_mm_srli_si128(code, 8)))};
}

MZ_VEC Vec load_small_e4m3(const uint8_t* p) {
  const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i halves = _mm256_and_si256(_mm256_slli_epi16(codes, 7),
                                          _mm256_set1_epi16(static_cast<int16_t>(0xbf80)));
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}

MZ_VEC __m256i e4m3_codes(__m256 a) {
  const __m256 rounded = round_e4m3(a);
  const __m256 sign = _mm256_and_ps(rounded, _mm256_set1_ps(-0.0f));
  const __m256 upper = _mm256_mul_ps(_mm256_xor_ps(rounded, sign), _mm256_set1_ps(0x1p-120f));
  return _mm256_or_si256(_mm256_srli_epi32(_mm256_castps_si256(upper), 20),
                         _mm256_srli_epi32(_mm256_castps_si256(sign), 24));
}
// The low bytes of 16 words.
MZ_VEC void store_bytes(uint8_t* p, __m256i lo, __m256i hi) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
MZ_VEC void store_small_e4m3(uint8_t* p, Vec a) {
  store_bytes(p, e4m3_codes(a.lo), e4m3_codes(a.hi));
}
MZ_VEC void store_e4m3(uint8_t* p, Vec a) {
  const auto codes = [](__m256 x) __attribute__((always_inline)) {
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(e4m3_codes(x), _mm256_set1_epi32(0x7f), is_nan);
  };
  store_bytes(p, codes(a.lo), codes(a.hi));
}

// Twice the rounded magnitude, an integer of 0..12, plus 64 where a is negative.
MZ_VEC __m256i e2m1_indices(__m256 a) {
  const __m256 sign = _mm256_and_ps(a, _mm256_set1_ps(-0.0f));
  const __m256 magnitude = _mm256_min_ps(_mm256_xor_ps(a, sign), _mm256_set1_ps(6.0f));
  const __m256 exponent = _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000));
  const __m256 binade = _mm256_max_ps(_mm256_set1_ps(1.0f), _mm256_and_ps(magnitude, exponent));
  const __m256 unit_place = _mm256_mul_ps(binade, _mm256_set1_ps(0x1.8p22f));
  const __m256 rounded = _mm256_sub_ps(_mm256_add_ps(magnitude, unit_place), unit_place);
  return _mm256_or_si256(_mm256_cvtps_epi32(_mm256_add_ps(rounded, rounded)),
                         _mm256_srli_epi32(_mm256_castps_si256(sign), 25));
}
MZ_VEC void store_small_e2m1(uint8_t* p, Vec a) {
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packus_epi32(e2m1_indices(a.lo), e2m1_indices(a.hi)), 0xd8);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7, 0, 0, 0);
  // vpshufb reads the low four bits of an index; bit 6 moves to bit 3.
  const __m128i sign = _mm_and_si128(_mm_srli_epi16(bytes, 3), _mm_set1_epi8(8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_or_si128(_mm_shuffle_epi8(table, bytes), sign));
}

MZ_VEC Vec load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i lo = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(half));
  const __m256i hi = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(half, 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
MZ_VEC __m256i bf16_words(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  const __m256 is_nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
  const __m256 kept =
      _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), is_nan);
  return _mm256_srli_epi32(_mm256_castps_si256(kept), 16);
}
MZ_VEC void store_bf16(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      pack_words(bf16_words(a.lo), bf16_words(a.hi)));
}

MZ_VEC void load_bf16_pairs(const uint16_t* p, __m256& first, __m256& second) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  second = _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
MZ_VEC void load_bf16_pairs(const uint16_t* p, Vec& first, Vec& second) {
  load_bf16_pairs(p, first.lo, second.lo);
  load_bf16_pairs(p + 16, first.hi, second.hi);
}
// 16 words of eight int4 codes, and the codes that stand above bit `shift`: up to bit 31, then down
// with their sign.
struct Int4Words {
  __m256i lo, hi;
};
MZ_VEC Int4Words load_int4_words(const uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
MZ_VEC __m256 int4_of(__m256i words, int shift) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 28 - shift), 28));
}
MZ_VEC Vec int4_of(Int4Words words, int shift) {
  return {int4_of(words.lo, shift), int4_of(words.hi, shift)};
}

MZ_VEC Vec load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
MZ_VEC void store_f16(uint16_t* p, Vec a) {
  constexpr int kHalfEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, kHalfEven));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, kHalfEven));
}

}  // namespace mezzotint::avx2

#undef MZ_VEC
