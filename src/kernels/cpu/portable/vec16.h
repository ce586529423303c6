// 16 floats as an array that compilers turn into what vectors they have; see cpu/avx512/vec16.h.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/f16.h"
#include "numerics/nibbles.h"
#include "numerics/rounding.h"

#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::portable {

struct Vec {
  float lane[16];
};

// result[i] = value(i)
template <typename Value>
MZ_VEC Vec lanes(const Value& value) {
  Vec result;
  for (int i = 0; i < 16; ++i) result.lane[i] = value(i);
  return result;
}

MZ_VEC Vec splat(float a) {
  return lanes([&](int) { return a; });
}
MZ_VEC Vec load(const float* p) {
  return lanes([&](int i) { return p[i]; });
}
MZ_VEC void store(float* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.lane[i];
}

MZ_VEC Vec operator+(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] + b.lane[i]; });
}
MZ_VEC Vec operator-(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] - b.lane[i]; });
}
MZ_VEC Vec operator*(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] * b.lane[i]; });
}
MZ_VEC Vec operator/(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] / b.lane[i]; });
}
MZ_VEC Vec min_of(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
MZ_VEC Vec max_of(const Vec& a, const Vec& b) {
  return lanes([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
MZ_VEC Vec round_half_even(const Vec& a) {
  return lanes([&](int i) { return mezzotint::round_half_even(a.lane[i]); });
}

// Four lanes as compilers' generic vectors: what bit patterns go through is not vectorized by
// itself.
using Floats4 [[gnu::vector_size(16)]] = float;
using Ints4 [[gnu::vector_size(16)]] = int32_t;
struct Bits16 {
  Ints4 words[4];
};

// Magnitudes order as integers.
MZ_VEC Vec max_magnitude(const Vec& a, const Vec& b) {
  const auto x = std::bit_cast<Bits16>(a), y = std::bit_cast<Bits16>(b);
  Bits16 result;
  for (int i = 0; i < 4; ++i) {
    const Ints4 u = x.words[i] & 0x7fffffff, v = y.words[i] & 0x7fffffff;
    result.words[i] = u > v ? u : v;
  }
  return std::bit_cast<Vec>(result);
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
  return lanes([&](int i) { return is_finite(a.lane[i]) ? a.lane[i] : 0.0f; });
}

MZ_VEC Vec power_of_two(const Vec& n) {
  return lanes([&](int i) {
    return std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23);
  });
}

MZ_VEC Vec scale_by_power(const Vec& a, const Vec& n) {
  const Vec half = round_half_even(n * splat(0.5f));
  return a * power_of_two(half) * power_of_two(n - half);
}

MZ_VEC Vec multiply_add(const Vec& a, const Vec& b, const Vec& c) { return a * b + c; }
MZ_VEC Vec round_small(const Vec& a) {
  return lanes([&](int i) { return (a.lane[i] + 0x1.8p23f) - 0x1.8p23f; });
}
MZ_VEC Vec times_power(const Vec& a, const Vec& n) { return a * power_of_two(n); }
MZ_VEC Vec exponent_part(const Vec& a) {
  return lanes([&](int i) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(a.lane[i]) & 0x7f800000u);
  });
}

template <int kDistance>
MZ_VEC Vec exchange_lanes(const Vec& a) {
  return lanes([&](int i) { return a.lane[i ^ kDistance]; });
}

MZ_VEC float sum_lanes(Vec a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.lane[i] += a.lane[i + width];
  }
  return a.lane[0];
}

MZ_VEC int32_t sum_integers(const Vec& a) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += static_cast<int32_t>(a.lane[i]);
  return sum;
}

MZ_VEC void cubic_in_double(const Vec& x, double a, double b, Vec& hi, Vec& lo) {
  for (int i = 0; i < 16; ++i) {
    const double d = x.lane[i];
    const double t = d * (a + b * (d * d));
    hi.lane[i] = static_cast<float>(t);
    lo.lane[i] = static_cast<float>(t - static_cast<double>(hi.lane[i]));
  }
}

MZ_VEC Vec swap_pairs(const Vec& a) {
  return lanes([&](int i) { return a.lane[i ^ 1]; });
}
MZ_VEC Vec load_doubled(const float* p) {
  return lanes([&](int i) { return p[i / 2]; });
}
MZ_VEC Vec negate_even(const Vec& a) {
  return lanes([&](int i) { return i % 2 == 0 ? -a.lane[i] : a.lane[i]; });
}

MZ_VEC Vec load_int8(const int8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i]); });
}
MZ_VEC void store_int8(int8_t* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(a.lane[i]);
}

MZ_VEC Vec round_e4m3(const Vec& a) {
  return lanes(
      [&](int i) { return e4m3_to_float(e4m3_from_float(a.lane[i], Rounding::kHalfEven)); });
}
MZ_VEC Vec load_e4m3(const uint8_t* p) {
  return lanes([&](int i) { return e4m3_to_float(p[i]); });
}

MZ_VEC void store_codes(uint8_t* p, const Bits16& codes) {
  int32_t words[16];
  __builtin_memcpy(words, codes.words, sizeof words);
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint8_t>(words[i]);
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
  return lanes([&](int i) { return bf16_to_float(p[i]); });
}
MZ_VEC void store_bf16(uint16_t* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = bf16_from_float(a.lane[i]);
}
MZ_VEC void load_bf16_pairs(const uint16_t* p, Vec& first, Vec& second) {
  for (int i = 0; i < 16; ++i) {
    first.lane[i] = bf16_to_float(p[2 * i]);
    second.lane[i] = bf16_to_float(p[2 * i + 1]);
  }
}
MZ_VEC void load_int4(const uint32_t* p, Vec (&w)[8]) {
  for (int j = 0; j < 8; ++j) {
    w[j] = lanes([&](int i) { return static_cast<float>(int4_from_nibble(p[i] >> (4 * j))); });
  }
}

MZ_VEC Vec load_f16(const uint16_t* p) {
  return lanes([&](int i) { return f16_to_float(p[i]); });
}
MZ_VEC void store_f16(uint16_t* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = f16_from_float(a.lane[i]);
}

}  // namespace mezzotint::portable

#undef MZ_VEC
