// Attention in vectors of GCC's extension, which compilers turn into the registers they have (SSE2
// on x86-64): arrays of 16 floats, as in vec16.h, would not stay in registers.
#include <bit>
#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/e4m3.h"
#include "numerics/f16.h"

#define MZ_ISA portable::attention
#define MZ_VEC [[gnu::always_inline]] inline

namespace mezzotint::portable::attention {
namespace {

using Floats [[gnu::vector_size(16)]] = float;
using Integers [[gnu::vector_size(16)]] = int32_t;
constexpr int kParts = 4;

struct Vec {
  Floats part[kParts];
};

// Part i of the result is value(part i of a, part i of b).
template <typename Value>
MZ_VEC Vec parts(const Vec& a, const Vec& b, const Value& value) {
  return {{value(a.part[0], b.part[0]), value(a.part[1], b.part[1]), value(a.part[2], b.part[2]),
           value(a.part[3], b.part[3])}};
}

MZ_VEC Vec splat(float a) {
  const Floats part = {a, a, a, a};
  return {{part, part, part, part}};
}
MZ_VEC Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a, p, sizeof a);
  return a;
}
MZ_VEC void store(float* p, const Vec& a) { __builtin_memcpy(p, &a, sizeof a); }

MZ_VEC Vec operator+(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return x + y; });
}
MZ_VEC Vec operator-(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return x - y; });
}
MZ_VEC Vec operator*(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return x * y; });
}
MZ_VEC Vec operator/(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return x / y; });
}
MZ_VEC Vec multiply_add(const Vec& a, const Vec& b, const Vec& c) { return a * b + c; }

MZ_VEC Integers bits_of(Floats a) { return std::bit_cast<Integers>(a); }
MZ_VEC Floats floats_of(Integers a) { return std::bit_cast<Floats>(a); }
MZ_VEC Floats select(Integers mask, Floats a, Floats b) {
  return floats_of((mask & bits_of(a)) | (~mask & bits_of(b)));
}
// A NaN in b is kept.
MZ_VEC Vec min_of(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return select(x < y, x, y); });
}
MZ_VEC Vec max_of(const Vec& a, const Vec& b) {
  return parts(a, b, [](Floats x, Floats y) { return select(x > y, x, y); });
}

MZ_VEC Vec round_small(const Vec& a) { return (a + splat(0x1.8p23f)) - splat(0x1.8p23f); }
MZ_VEC Vec exponent_part(const Vec& a) {
  return parts(a, a, [](Floats x, Floats) { return floats_of(bits_of(x) & 0x7f800000); });
}
// n + 1.5 * 2^23 has n in its low bits, for negative n modulo 2^22; the exponent field takes 8.
MZ_VEC Vec times_power(const Vec& a, const Vec& n) {
  return parts(a, n + splat(0x1.8p23f), [](Floats x, Floats shifted) {
    const Integers field = (bits_of(shifted) + 127) & 0xff;
    return x * floats_of(field << 23);
  });
}

MZ_VEC float sum_lanes(const Vec& a) {
  const Floats sum = (a.part[0] + a.part[2]) + (a.part[1] + a.part[3]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// Of operands on their way into a block, once per element: in scalars.
template <typename Value>
MZ_VEC Vec lanes(const Value& value) {
  float lane[kParts * 4];
  for (int i = 0; i < kParts * 4; ++i) lane[i] = value(i);
  return load(lane);
}
MZ_VEC Vec load_bf16(const uint16_t* p) {
  return lanes([&](int i) { return bf16_to_float(p[i]); });
}
MZ_VEC Vec load_f16(const uint16_t* p) {
  return lanes([&](int i) { return f16_to_float(p[i]); });
}
MZ_VEC Vec round_e4m3(const Vec& a) {
  float lane[kParts * 4];
  store(lane, a);
  return lanes([&](int i) { return e4m3_to_float(e4m3_from_float(lane[i], Rounding::kHalfEven)); });
}
[[maybe_unused]] MZ_VEC void store_bf16(uint16_t* p, const Vec& a) {
  for (int i = 0; i < kParts * 4; ++i) p[i] = bf16_from_float(a.part[i / 4][i % 4]);
}
[[maybe_unused]] MZ_VEC void store_f16(uint16_t* p, const Vec& a) {
  for (int i = 0; i < kParts * 4; ++i) p[i] = f16_from_float(a.part[i / 4][i % 4]);
}

constexpr int kPerStep = 1;
constexpr int kStripRows = 2;  // 8 accumulators of 4 lanes, 4 registers of columns, 1 of a row
constexpr int kPanelVectors = 1;

MZ_VEC Vec words_of_run(const Vec (&v)[kPerStep]) { return v[0]; }
MZ_VEC Vec words_of_lanes(const Vec (&v)[kPerStep]) { return v[0]; }
MZ_VEC Vec multiply_words(const Vec& a, const Vec& b, const Vec& acc) {
  return multiply_add(a, b, acc);
}

}  // namespace
}  // namespace mezzotint::portable::attention

#undef MZ_VEC

#include "kernels/flash_attention.inl"
