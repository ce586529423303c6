// 16 floats as four of the compilers' generic vectors, which become registers of SSE2, what every
// x86-64 has; arrays of 16 floats would not stay in registers. What one instruction does and no
// expression says (minimum, rounding to integers, packing with saturation) are intrinsics. See
// cpu/avx512/vec16.h; vec16.h has the rest.
#pragma once

#include <emmintrin.h>

#include <bit>
#include <cstdint>

#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::portable {

using Floats4 [[gnu::vector_size(16)]] = float;
using Ints4 [[gnu::vector_size(16)]] = int32_t;
using Words4 [[gnu::vector_size(16)]] = uint32_t;
using Shorts8 [[gnu::vector_size(16)]] = int16_t;
using Bytes16 [[gnu::vector_size(16)]] = int8_t;
constexpr int kParts = 4;

struct Vec {
  Floats4 part[kParts];
};
struct Bits16 {
  Ints4 words[kParts];
};
struct Lanes {
  float lane[16];
};

// result[i] = value(i)
template <typename Value>
MZ_VEC Vec lanes(const Value& value) {
  Lanes result;
  for (int i = 0; i < 16; ++i) result.lane[i] = value(i);
  return std::bit_cast<Vec>(result);
}
// Part i of the result is value(part i of a, ...).
template <typename Value, typename... Vecs>
MZ_VEC Vec parts(const Value& value, const Vecs&... a) {
  return {{value(a.part[0]...), value(a.part[1]...), value(a.part[2]...), value(a.part[3]...)}};
}

MZ_VEC Ints4 bits_of(Floats4 a) { return std::bit_cast<Ints4>(a); }
MZ_VEC Floats4 floats_of(Ints4 a) { return std::bit_cast<Floats4>(a); }
MZ_VEC Floats4 min_of(Floats4 a, Floats4 b) { return _mm_min_ps(a, b); }  // a < b ? a : b
MZ_VEC Floats4 max_of(Floats4 a, Floats4 b) { return _mm_max_ps(a, b); }
MZ_VEC Ints4 max_of(Ints4 a, Ints4 b) { return a > b ? a : b; }
MZ_VEC Shorts8 min_of(Shorts8 a, Shorts8 b) {
  return std::bit_cast<Shorts8>(
      _mm_min_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
}
MZ_VEC Shorts8 max_of(Shorts8 a, Shorts8 b) {
  return std::bit_cast<Shorts8>(
      _mm_max_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
}
// 8 and 16 integers, saturated to the narrower type.
MZ_VEC Shorts8 pack(Ints4 a, Ints4 b) {
  return std::bit_cast<Shorts8>(
      _mm_packs_epi32(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
}
MZ_VEC Bytes16 pack(Shorts8 a, Shorts8 b) {
  return std::bit_cast<Bytes16>(
      _mm_packs_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
}

MZ_VEC Vec splat(float a) {
  const Floats4 part = {a, a, a, a};
  return {{part, part, part, part}};
}
// Part by part: g++ keeps a dead copy of a structure that memcpy or bit_cast makes.
MZ_VEC Vec load(const float* p) {
  return {{_mm_loadu_ps(p), _mm_loadu_ps(p + 4), _mm_loadu_ps(p + 8), _mm_loadu_ps(p + 12)}};
}
MZ_VEC void store(float* p, const Vec& a) {
  _mm_storeu_ps(p, a.part[0]);
  _mm_storeu_ps(p + 4, a.part[1]);
  _mm_storeu_ps(p + 8, a.part[2]);
  _mm_storeu_ps(p + 12, a.part[3]);
}

MZ_VEC Vec operator+(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return x + y; }, a, b);
}
MZ_VEC Vec operator-(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return x - y; }, a, b);
}
MZ_VEC Vec operator*(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return x * y; }, a, b);
}
MZ_VEC Vec operator/(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return x / y; }, a, b);
}
// A NaN in a gives b.
MZ_VEC Vec min_of(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return min_of(x, y); }, a, b);
}
MZ_VEC Vec max_of(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return max_of(x, y); }, a, b);
}
// numerics/rounding.h: what is not below 2^23 is an integer, or none at all.
MZ_VEC Vec round_half_even(const Vec& a) {
  return parts(
      [](Floats4 x) {
        const Ints4 bits = bits_of(x), sign = bits & INT32_MIN;
        const Ints4 magnitude = bits & INT32_MAX;
        const Floats4 rounded = (floats_of(magnitude) + 0x1p23f) - 0x1p23f;
        return magnitude < std::bit_cast<int32_t>(0x1p23f) ? floats_of(bits_of(rounded) | sign) : x;
      },
      a);
}

MZ_VEC Vec magnitude(const Vec& a) {
  return parts([](Floats4 x) { return floats_of(bits_of(x) & INT32_MAX); }, a);
}
MZ_VEC Vec max_magnitude(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return floats_of(max_of(bits_of(x), bits_of(y))); }, a,
               b);
}
MZ_VEC float largest_lane(const Vec& a) {
  const Ints4 lo = max_of(bits_of(a.part[0]), bits_of(a.part[1]));
  const Ints4 four = max_of(lo, max_of(bits_of(a.part[2]), bits_of(a.part[3])));
  const Ints4 two = max_of(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return std::bit_cast<float>(max_of(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0]);
}
// By the upper halves of the floats: SSE2 has a maximum of integers of 16 bits only.
MZ_VEC float largest_binade(const Vec& a, const Vec& b) {
  const auto halves = [](Floats4 x, Floats4 y) __attribute__((always_inline)) {
    return std::bit_cast<__m128i>(pack(bits_of(x) >> 16, bits_of(y) >> 16) & int16_t{INT16_MAX});
  };
  const __m128i lo = _mm_max_epi16(halves(a.part[0], a.part[1]), halves(a.part[2], a.part[3]));
  const __m128i hi = _mm_max_epi16(halves(b.part[0], b.part[1]), halves(b.part[2], b.part[3]));
  const __m128i m8 = _mm_max_epi16(lo, hi);
  const __m128i m4 = _mm_max_epi16(m8, _mm_shuffle_epi32(m8, 0x4e));
  const __m128i m2 = _mm_max_epi16(m4, _mm_shuffle_epi32(m4, 0xb1));
  const __m128i m1 = _mm_max_epi16(m2, _mm_shufflelo_epi16(m2, 0xb1));
  return std::bit_cast<float>(_mm_cvtsi128_si32(m1) & 0x7f800000);
}
MZ_VEC Vec finite_or_zero(const Vec& a) {
  return parts(
      [](Floats4 x) { return floats_of(bits_of(x) & ((bits_of(x) & INT32_MAX) < 0x7f800000)); }, a);
}

MZ_VEC Vec power_of_two(const Vec& n) {
  return parts([](Floats4 x) { return floats_of((__builtin_convertvector(x, Ints4) + 127) << 23); },
               n);
}

MZ_VEC Vec scale_by_power(const Vec& a, const Vec& n) {
  const Vec half = round_half_even(n * splat(0.5f));
  return a * power_of_two(half) * power_of_two(n - half);
}

MZ_VEC Vec multiply_add(const Vec& a, const Vec& b, const Vec& c) { return a * b + c; }
MZ_VEC Vec round_small(const Vec& a) { return (a + splat(0x1.8p23f)) - splat(0x1.8p23f); }
MZ_VEC Vec times_power(const Vec& a, const Vec& n) { return a * power_of_two(n); }
MZ_VEC Vec exponent_part(const Vec& a) {
  return parts([](Floats4 x) { return floats_of(bits_of(x) & 0x7f800000); }, a);
}

// Lane i of the result is lane i ^ kDistance.
template <int kDistance>
MZ_VEC Vec exchange_lanes(const Vec& a) {
  if constexpr (kDistance >= 4) {
    constexpr int d = kDistance / 4;
    return {{a.part[0 ^ d], a.part[1 ^ d], a.part[2 ^ d], a.part[3 ^ d]}};
  } else {
    return parts(
        [](Floats4 x) {
          return __builtin_shufflevector(x, x, 0 ^ kDistance, 1 ^ kDistance, 2 ^ kDistance,
                                         3 ^ kDistance);
        },
        a);
  }
}

MZ_VEC float sum_lanes(const Vec& a) {
  const Floats4 four = (a.part[0] + a.part[2]) + (a.part[1] + a.part[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Exact in double, so that the one rounding is that of a fused multiply-add.
MZ_VEC Vec product_error(const Vec& a, const Vec& b, const Vec& product) {
  const auto of_two = [](Floats4 x, Floats4 y, Floats4 xy) {
    return _mm_cvtpd_ps(_mm_sub_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(xy)));
  };
  const auto upper = [](Floats4 x) { return _mm_movehl_ps(x, x); };
  return parts(
      [&](Floats4 x, Floats4 y, Floats4 xy) -> Floats4 {
        return _mm_movelh_ps(of_two(x, y, xy), of_two(upper(x), upper(y), upper(xy)));
      },
      a, b, product);
}

MZ_VEC Vec swap_pairs(const Vec& a) { return exchange_lanes<1>(a); }
MZ_VEC Vec load_doubled(const float* p) {
  return lanes([&](int i) { return p[i / 2]; });
}
MZ_VEC Vec negate_even(const Vec& a) {
  return parts(
      [](Floats4 x) {
        const Ints4 signs = {INT32_MIN, 0, INT32_MIN, 0};
        return floats_of(bits_of(x) ^ signs);
      },
      a);
}

}  // namespace mezzotint::portable

#undef MZ_VEC
