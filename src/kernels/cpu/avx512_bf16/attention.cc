// Attention by vdpbf16ps. bf16 operands as they are; e4m3 numbers are exact in bf16, and normal:
// the instruction reads denormals as 0, but the smallest e4m3 is 2^-9.
#include "kernels/cpu/avx512/vec16.h"

#define MZ_ISA avx512_bf16

namespace mezzotint::avx512_bf16 {
namespace {

using avx512::exponent_part;
using avx512::load;
using avx512::load_bf16;
using avx512::load_f16;
using avx512::max_of;
using avx512::min_of;
using avx512::multiply_add;
using avx512::round_e4m3;
using avx512::round_small;
using avx512::splat;
using avx512::store;
using avx512::store_bf16;
using avx512::store_f16;
using avx512::sum_lanes;
using avx512::times_power;
using avx512::Vec;

constexpr int kPerStep = 2;
constexpr int kStripRows = 8;     // divides kQueryBlock
constexpr int kPanelVectors = 2;  // 16 accumulators: a latency of 6 cycles on one 512-bit pipe

[[gnu::always_inline]] inline Vec words_of_run(const Vec (&v)[kPerStep]) {
  return {reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(v[1].v, v[0].v))};
}
// Both are bf16 already: the upper halves of the floats.
[[gnu::always_inline]] inline Vec words_of_lanes(const Vec (&v)[kPerStep]) {
  const __m512i first = _mm512_srli_epi32(_mm512_castps_si512(v[0].v), 16);
  return {_mm512_castsi512_ps(_mm512_or_si512(first, _mm512_castps_si512(v[1].v)))};
}
[[gnu::always_inline]] inline Vec multiply_words(Vec a, Vec b, Vec acc) {
  return {
      _mm512_dpbf16_ps(acc.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}

}  // namespace
}  // namespace mezzotint::avx512_bf16

#include "kernels/flash_attention.inl"
