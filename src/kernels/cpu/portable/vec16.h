// 16 floats as four of the compilers' generic vectors, which become the registers they have (SSE2
// on x86-64); arrays of 16 floats would not stay in registers. See cpu/avx512/vec16.h.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/f16.h"

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

MZ_VEC Vec splat(float a) {
  const Floats4 part = {a, a, a, a};
  return {{part, part, part, part}};
}
MZ_VEC Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a, p, sizeof a);
  return a;
}
MZ_VEC void store(float* p, const Vec& a) { __builtin_memcpy(p, &a, sizeof a); }

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
  return parts([](Floats4 x, Floats4 y) { return x < y ? x : y; }, a, b);
}
MZ_VEC Vec max_of(const Vec& a, const Vec& b) {
  return parts([](Floats4 x, Floats4 y) { return x > y ? x : y; }, a, b);
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

// Magnitudes order as integers.
MZ_VEC Vec max_magnitude(const Vec& a, const Vec& b) {
  return parts(
      [](Floats4 x, Floats4 y) {
        const Ints4 u = bits_of(x) & INT32_MAX, v = bits_of(y) & INT32_MAX;
        return floats_of(u > v ? u : v);
      },
      a, b);
}
MZ_VEC float largest_lane(const Vec& a) {
  const auto bits = std::bit_cast<Bits16>(a);
  const Ints4 lo = bits.words[0] > bits.words[1] ? bits.words[0] : bits.words[1];
  const Ints4 hi = bits.words[2] > bits.words[3] ? bits.words[2] : bits.words[3];
  const Ints4 four = lo > hi ? lo : hi;
  const int32_t even = four[0] > four[2] ? four[0] : four[2];
  const int32_t odd = four[1] > four[3] ? four[1] : four[3];
  return std::bit_cast<float>(even > odd ? even : odd);
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

MZ_VEC int32_t sum_integers(const Vec& a) {
  Ints4 sum = {};
  for (const Floats4& part : a.part) sum += __builtin_convertvector(part, Ints4);
  return sum[0] + sum[1] + sum[2] + sum[3];
}

MZ_VEC void cubic_in_double(const Vec& x, double a, double b, Vec& hi, Vec& lo) {
  const auto in = std::bit_cast<Lanes>(x);
  Lanes upper, lower;
  for (int i = 0; i < 16; ++i) {
    const double d = in.lane[i];
    const double t = d * (a + b * (d * d));
    upper.lane[i] = static_cast<float>(t);
    lower.lane[i] = static_cast<float>(t - static_cast<double>(upper.lane[i]));
  }
  hi = std::bit_cast<Vec>(upper);
  lo = std::bit_cast<Vec>(lower);
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

// --- narrow integers -----------------------------------------------------------------------------

// 16 bytes, each in the upper byte of 32 bits; the same of 8 words.
MZ_VEC Bits16 widen_bytes(const void* p) {
  Bytes16 bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  const Bytes16 zero = {};
  const auto lo = std::bit_cast<Shorts8>(
      __builtin_shufflevector(zero, bytes, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  const auto hi = std::bit_cast<Shorts8>(__builtin_shufflevector(
      zero, bytes, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  const Shorts8 none = {};
  const auto words = [](Shorts8 x) { return std::bit_cast<Ints4>(x); };
  return {{words(__builtin_shufflevector(none, lo, 0, 8, 1, 9, 2, 10, 3, 11)),
           words(__builtin_shufflevector(none, lo, 4, 12, 5, 13, 6, 14, 7, 15)),
           words(__builtin_shufflevector(none, hi, 0, 8, 1, 9, 2, 10, 3, 11)),
           words(__builtin_shufflevector(none, hi, 4, 12, 5, 13, 6, 14, 7, 15))}};
}
MZ_VEC void widen_words(const void* p, Ints4& lower, Ints4& upper) {
  Shorts8 words;
  __builtin_memcpy(&words, p, sizeof words);
  const Shorts8 zero = {};
  lower = std::bit_cast<Ints4>(__builtin_shufflevector(zero, words, 0, 8, 1, 9, 2, 10, 3, 11));
  upper = std::bit_cast<Ints4>(__builtin_shufflevector(zero, words, 4, 12, 5, 13, 6, 14, 7, 15));
}
// The lower halves of 8 integers.
MZ_VEC Shorts8 lower_words(Ints4 a, Ints4 b) {
  return __builtin_shufflevector(std::bit_cast<Shorts8>(a), std::bit_cast<Shorts8>(b), 0, 2, 4, 6,
                                 8, 10, 12, 14);
}
MZ_VEC void store_codes(void* p, const Bits16& codes) {
  const auto lo = std::bit_cast<Bytes16>(lower_words(codes.words[0], codes.words[1]));
  const auto hi = std::bit_cast<Bytes16>(lower_words(codes.words[2], codes.words[3]));
  const Bytes16 bytes =
      __builtin_shufflevector(lo, hi, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  __builtin_memcpy(p, &bytes, sizeof bytes);
}

MZ_VEC Vec load_int8(const int8_t* p) {
  const Bits16 codes = widen_bytes(p);
  Vec result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = __builtin_convertvector(codes.words[i] >> 24, Floats4);
  }
  return result;
}
MZ_VEC void store_int8(int8_t* p, const Vec& a) {
  Bits16 codes;
  for (int i = 0; i < kParts; ++i) codes.words[i] = __builtin_convertvector(a.part[i], Ints4);
  store_codes(p, codes);
}

// The magnitude of `bits`, at most `largest`, rounded to units of `place` * 2^-23 of its binade, or
// of `normal` below that: cpu/avx512/vec16.h, round_e4m3.
MZ_VEC Floats4 round_magnitude(Ints4 bits, float largest, float normal, float place) {
  const Ints4 most = Ints4{} + std::bit_cast<int32_t>(largest);
  const Ints4 least = Ints4{} + std::bit_cast<int32_t>(normal);
  const Ints4 absolute = bits & 0x7fffffff;
  const Ints4 magnitude = absolute < most ? absolute : most;
  const Ints4 binade = magnitude & 0x7f800000;
  const auto unit_place = std::bit_cast<Floats4>(binade > least ? binade : least) * place;
  return (std::bit_cast<Floats4>(magnitude) + unit_place) - unit_place;
}

MZ_VEC Vec round_e4m3(const Vec& a) {
  return parts(
      [](Floats4 x) {
        const Ints4 bits = bits_of(x), magnitude = bits & INT32_MAX;
        const Floats4 rounded = round_magnitude(bits, kE4M3Max, 0x1p-6f, 0x1.8p20f);
        return magnitude > 0x7f800000 ? x : floats_of(bits_of(rounded) | (bits & INT32_MIN));
      },
      a);
}
// The exponent and mantissa of a code in their places give the value times 2^-120.
MZ_VEC Vec load_e4m3(const uint8_t* p) {
  const Bits16 codes = widen_bytes(p);
  Vec result;
  for (int i = 0; i < kParts; ++i) {
    const Ints4 sign = codes.words[i] & INT32_MIN, magnitude = codes.words[i] & 0x7f000000;
    const Floats4 value = floats_of(magnitude >> 4) * 0x1p120f;
    const Ints4 nan = Ints4{} + 0x7fc00000;
    result.part[i] = floats_of((magnitude == 0x7f000000 ? nan : bits_of(value)) | sign);
  }
  return result;
}
MZ_VEC void store_e4m3(uint8_t* p, const Vec& a) {
  Bits16 codes = std::bit_cast<Bits16>(a);
  for (Ints4& bits : codes.words) {
    const Floats4 rounded = round_magnitude(bits, kE4M3Max, 0x1p-6f, 0x1.8p20f);
    const Ints4 code = (std::bit_cast<Ints4>(rounded * 0x1p-120f) >> 20) | ((bits >> 24) & 0x80);
    const Ints4 is_nan = (bits & 0x7fffffff) > 0x7f800000;
    bits = is_nan ? Ints4{} + kE4M3NaN : code;
  }
  store_codes(p, codes);
}
// Twice a rounded magnitude is one of 0 1 2 3 4 6 8 12, whose codes are 0..7.
MZ_VEC void store_e2m1(uint8_t* p, const Vec& a) {
  Bits16 codes = std::bit_cast<Bits16>(a);
  for (Ints4& bits : codes.words) {
    const Floats4 rounded = round_magnitude(bits, kE2M1Max, 1.0f, 0x1.8p22f);
    const auto doubled = __builtin_convertvector(rounded + rounded, Ints4);
    const Ints4 above4 = (doubled > 4) & (doubled - 4), above8 = (doubled > 8) & (doubled - 8);
    bits = (doubled - (above4 >> 1) - (above8 >> 2)) | ((bits >> 28) & 8);
  }
  store_codes(p, codes);
}

MZ_VEC Vec load_bf16(const uint16_t* p) {
  Bits16 bits;
  widen_words(p, bits.words[0], bits.words[1]);
  widen_words(p + 8, bits.words[2], bits.words[3]);
  return std::bit_cast<Vec>(bits);
}
// numerics/bf16.h, bf16_from_float.
MZ_VEC void store_bf16(uint16_t* p, const Vec& a) {
  Bits16 bits = std::bit_cast<Bits16>(a);
  for (Ints4& word : bits.words) {
    const Ints4 is_nan = (word & INT32_MAX) > 0x7f800000;
    const auto unsigned_word = std::bit_cast<Words4>(word);
    const Words4 rounded = unsigned_word + 0x7fffu + ((unsigned_word >> 16) & 1u);
    word = (is_nan ? word | 0x00400000 : std::bit_cast<Ints4>(rounded)) >> 16;
  }
  const Shorts8 halves[2] = {lower_words(bits.words[0], bits.words[1]),
                             lower_words(bits.words[2], bits.words[3])};
  __builtin_memcpy(p, halves, sizeof halves);
}
MZ_VEC void load_bf16_pairs(const uint16_t* p, Vec& first, Vec& second) {
  Bits16 pairs;
  __builtin_memcpy(&pairs, p, sizeof pairs);
  for (int i = 0; i < kParts; ++i) {
    first.part[i] = floats_of(pairs.words[i] << 16);
    second.part[i] = floats_of(pairs.words[i] & static_cast<int32_t>(0xffff0000u));
  }
}
MZ_VEC void load_int4(const uint32_t* p, Vec (&w)[8]) {
  Bits16 words;
  __builtin_memcpy(&words, p, sizeof words);
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < kParts; ++i) {
      w[j].part[i] = __builtin_convertvector(words.words[i] << (28 - 4 * j) >> 28, Floats4);
    }
  }
}

MZ_VEC Vec load_f16(const uint16_t* p) {
  return lanes([&](int i) { return f16_to_float(p[i]); });
}
MZ_VEC void store_f16(uint16_t* p, const Vec& a) {
  const auto in = std::bit_cast<Lanes>(a);
  for (int i = 0; i < 16; ++i) p[i] = f16_from_float(in.lane[i]);
}

}  // namespace mezzotint::portable

#undef MZ_VEC
