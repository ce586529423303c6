// 16 floats (vec16_floats.h), and 16 integers or floats of 8 and 16 bits to and from them. See
// cpu/avx512/vec16.h.
#pragma once

#include <emmintrin.h>

#include <bit>
#include <cstdint>

#include "kernels/cpu/portable/vec16_floats.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e8m0.h"
#include "numerics/f16.h"
#include "numerics/quant_scheme.h"

#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::portable {

MZ_VEC int32_t lanes_outside(const Vec& a, const Vec& low, const Vec& high) {
  Ints4 outside = {};  // comparisons are -1 where they hold
  for (int i = 0; i < kParts; ++i) {
    outside -= (a.part[i] < low.part[i]) | (a.part[i] > high.part[i]);
  }
  return outside[0] + outside[1] + outside[2] + outside[3];
}

using Doubles2 [[gnu::vector_size(16)]] = double;
struct Doubles {
  Doubles2 part[2 * kParts];
};
MZ_VEC Doubles zero_doubles() { return {}; }
MZ_VEC Doubles2 doubles_of(float a, float b) {
  const Doubles2 pair = {static_cast<double>(a), static_cast<double>(b)};
  return pair;
}
MZ_VEC void add_products(const Vec& a, const Vec& b, Doubles& sum) {
  for (int i = 0; i < kParts; ++i) {
    const Floats4 x = a.part[i], y = b.part[i];
    sum.part[2 * i] += doubles_of(x[0], x[1]) * doubles_of(y[0], y[1]);
    sum.part[2 * i + 1] += doubles_of(x[2], x[3]) * doubles_of(y[2], y[3]);
  }
}
MZ_VEC double sum_doubles(const Doubles& a) {
  const Doubles2 s4[2] = {(a.part[0] + a.part[4]) + (a.part[2] + a.part[6]),
                          (a.part[1] + a.part[5]) + (a.part[3] + a.part[7])};
  const Doubles2 s2 = s4[0] + s4[1];
  return s2[0] + s2[1];
}

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
MZ_VEC Vec load_int8(const int8_t* p) {
  const Bits16 codes = widen_bytes(p);
  Vec result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = __builtin_convertvector(codes.words[i] >> 24, Floats4);
  }
  return result;
}
MZ_VEC Ints4 nearest_integers(Floats4 a) { return std::bit_cast<Ints4>(_mm_cvtps_epi32(a)); }
MZ_VEC Bits16 nearest_integers(const Vec& a) {
  return {{nearest_integers(a.part[0]), nearest_integers(a.part[1]), nearest_integers(a.part[2]),
           nearest_integers(a.part[3])}};
}
MZ_VEC Bits16 operator+(const Bits16& a, const Bits16& b) {
  return {{a.words[0] + b.words[0], a.words[1] + b.words[1], a.words[2] + b.words[2],
           a.words[3] + b.words[3]}};
}
MZ_VEC int32_t sum_lanes(const Bits16& a) {
  const Ints4 sum = (a.words[0] + a.words[2]) + (a.words[1] + a.words[3]);
  return sum[0] + sum[1] + sum[2] + sum[3];
}
MZ_VEC void store_int8(int8_t* p, const Bits16& a) {
  const Bytes16 bytes = pack(pack(a.words[0], a.words[1]), pack(a.words[2], a.words[3]));
  __builtin_memcpy(p, &bytes, sizeof bytes);
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
MZ_VEC Vec load_small_e4m3(const uint8_t* p) {
  const Bits16 codes = widen_bytes(p);
  const auto value = [](Ints4 code) __attribute__((always_inline)) {
    return floats_of((code >> 4) & static_cast<int32_t>(0x87f00000u)) * 0x1p112f;
  };
  return {
      {value(codes.words[0]), value(codes.words[1]), value(codes.words[2]), value(codes.words[3])}};
}

// The codes of 16 numbers times 2^(127 - byte), half to even, saturating, in a format whose
// smallest normal number is 2^kLeast. For magnitudes of [2^e, 2^(e+1)), e no less than that of the
// smallest normal number times the scale, adding 1.5 * 2^(e + 23 - kMantissa) rounds to r units of
// the last place; the code is r plus 2^kMantissa for every binade above the first. Nothing is
// multiplied: a product with a denormal float takes Zen 4 60 cycles. Exponents are read, and codes
// made, of the upper halves of floats, 8 to a register: `byte` is of [16, 220], that what is added
// is a float.
template <int kMantissa, int kLeast, int16_t kLargestCode>
struct MinifloatCodes {
  static constexpr int kDropped = 23 - kMantissa;
  static constexpr auto kPlace = static_cast<int16_t>(kDropped << 7 | 0x40);
  Shorts8 least, first;

  MZ_VEC explicit MinifloatCodes(uint8_t byte) {
    const int field = kLeast + byte;
    least = Shorts8{} + static_cast<int16_t>(field << 7);
    first = Shorts8{} + static_cast<int16_t>(field << kMantissa);
  }
  MZ_VEC Shorts8 magnitudes(Floats4 a, Floats4 b, Shorts8 upper) const {
    const Shorts8 none = {};
    const Shorts8 binade = max_of(upper & int16_t{0x7f80}, least), place = binade + kPlace;
    const auto place_a =
        std::bit_cast<Ints4>(__builtin_shufflevector(none, place, 0, 8, 1, 9, 2, 10, 3, 11));
    const auto place_b =
        std::bit_cast<Ints4>(__builtin_shufflevector(none, place, 4, 12, 5, 13, 6, 14, 7, 15));
    const auto units = [](Floats4 x, Ints4 at) __attribute__((always_inline)) {
      return bits_of(floats_of(bits_of(x) & INT32_MAX) + floats_of(at)) - at;
    };
    const Shorts8 rounded = pack(units(a, place_a), units(b, place_b));
    return min_of(rounded + (binade >> (kDropped - 16)) - first, Shorts8{} + kLargestCode);
  }
  // 0x80 in the bytes of negative numbers: what is finite and negative has an upper half below
  // -128, where packing saturates.
  MZ_VEC Bytes16 codes(const Vec& a, Bytes16& signs) const {
    const auto upper = [&](int i) __attribute__((always_inline)) {
      return pack(bits_of(a.part[i]) >> 16, bits_of(a.part[i + 1]) >> 16);
    };
    const Shorts8 lo = upper(0), hi = upper(2);
    signs = pack(lo, hi) & int8_t{INT8_MIN};
    return pack(magnitudes(a.part[0], a.part[1], lo), magnitudes(a.part[2], a.part[3], hi));
  }
};

MZ_VEC Bytes16 e4m3_codes(const Vec& a, uint8_t byte) {
  Bytes16 signs;
  const MinifloatCodes<kE4M3Format.mantissa_bits, 1 - kE4M3Format.bias, kE4M3Format.max_code> make(
      byte);
  const Bytes16 codes = make.codes(a, signs);
  return codes | signs;
}
MZ_VEC Bytes16 e2m1_codes(const Vec& a, uint8_t byte) {
  Bytes16 signs;
  const MinifloatCodes<kE2M1Format.mantissa_bits, 1 - kE2M1Format.bias, kE2M1Format.max_code> make(
      byte);
  const Bytes16 codes = make.codes(a, signs);
  const auto words = std::bit_cast<Shorts8>(signs) >> 4;  // bit 7 of a byte to bit 3
  return codes | (std::bit_cast<Bytes16>(words) & int8_t{kE2M1Format.sign_bit});
}
// kernels/mx_codes.inl
template <Element kElement>
MZ_VEC void store_scaled_codes(uint8_t* p, const Vec& a, uint8_t byte) {
  const auto codes_of = [](const Vec& v, uint8_t scale) __attribute__((always_inline)) {
    return kElement == Element::kE2M1 ? e2m1_codes(v, scale) : e4m3_codes(v, scale);
  };
  const bool may_add_places = byte >= 16 && byte <= 220;
  const Bytes16 codes =
      may_add_places
          ? codes_of(a, byte)
          : codes_of(a * splat(e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - byte))),
                     kE8M0Bias);
  __builtin_memcpy(p, &codes, sizeof codes);
}
MZ_VEC void store_e4m3(uint8_t* p, const Vec& a) {
  const auto is_nan = [](Floats4 x) __attribute__((always_inline)) {
    return (bits_of(x) & INT32_MAX) > 0x7f800000;
  };
  const Bytes16 nan =
      pack(pack(is_nan(a.part[0]), is_nan(a.part[1])), pack(is_nan(a.part[2]), is_nan(a.part[3])));
  const Vec limited = max_of(min_of(a, splat(kE4M3Max)), splat(-kE4M3Max));
  const Bytes16 numbers = e4m3_codes(limited, kE8M0Bias);
  const Bytes16 codes = (numbers & ~nan) | (nan & int8_t{kE4M3NaN});
  __builtin_memcpy(p, &codes, sizeof codes);
}
MZ_VEC Vec load_bf16(const uint16_t* p) {
  Ints4 w0, w1, w2, w3;
  widen_words(p, w0, w1);
  widen_words(p + 8, w2, w3);
  return {{floats_of(w0), floats_of(w1), floats_of(w2), floats_of(w3)}};
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
  const Shorts8 halves[2] = {pack(bits.words[0], bits.words[1]),
                             pack(bits.words[2], bits.words[3])};
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
// 16 words of eight int4 codes, and the codes that stand above bit `shift`.
using Int4Words = Bits16;
MZ_VEC Int4Words load_int4_words(const uint32_t* p) {
  Int4Words words;
  __builtin_memcpy(&words, p, sizeof words);
  return words;
}
MZ_VEC Vec int4_of(const Int4Words& words, int shift) {
  Vec w;
  for (int i = 0; i < kParts; ++i) {
    w.part[i] = __builtin_convertvector(words.words[i] << (28 - shift) >> 28, Floats4);
  }
  return w;
}

// numerics/f16.h: exponent and mantissa in their places give the value times 2^-112. The product
// makes NaN quiet.
MZ_VEC Floats4 f16_values(Ints4 upper) {
  const Ints4 magnitude = (upper & INT32_MAX) >> 3;
  const Ints4 infinite = (magnitude > 0x0f7fffff) & 0x7f800000;
  return floats_of(bits_of(floats_of(magnitude | infinite) * 0x1p112f) | (upper & INT32_MIN));
}
MZ_VEC Vec load_f16(const uint16_t* p) {
  Ints4 w0, w1, w2, w3;
  widen_words(p, w0, w1);
  widen_words(p + 8, w2, w3);
  return {{f16_values(w0), f16_values(w1), f16_values(w2), f16_values(w3)}};
}
MZ_VEC void store_f16(uint16_t* p, const Vec& a) {
  const auto in = std::bit_cast<Lanes>(a);
  for (int i = 0; i < 16; ++i) p[i] = f16_from_float(in.lane[i]);
}

}  // namespace mezzotint::portable

#undef MZ_VEC
