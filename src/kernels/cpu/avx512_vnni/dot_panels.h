// One step of codes of x times panels of int8 or int4 weights by vpdpbusd, and how a tile's rows
// are cut. The weights (unsigned) sit in registers, the activations (signed) are broadcast from
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/avx512_vnni/panel.h"
#include "kernels/int8_vnni_layout.h"
#include "kernels/nibble_panels_layout.h"

#define MZ_PANEL [[gnu::always_inline]] inline

namespace mezzotint::avx512_vnni {

constexpr int kMaxRows = 14;
constexpr int kVectors = 2;          // a panel of 32 columns
constexpr int kUnroll = 4;           // steps per turn of the loop
constexpr int64_t kPrefetch = 1024;  // bytes ahead in the panel: 8 steps, 224 cycles
constexpr int64_t kLine = 64;

// Lines that a turn asks for, of what it reads later, so that a tile's groups together ask for all
// of it: few rows mean few groups.
template <typename Panel>
MZ_PANEL constexpr int64_t lines_ahead(int rows) {
  constexpr int64_t kTurn = kUnroll * Panel::kStepBytes / kLine;
  constexpr int64_t kHalf = kTurn < 4 ? kTurn : 4;
  return rows <= 4 ? kTurn : (rows <= 8 ? kHalf : 1);
}

// Fewer accumulators than the latency asks for (8) when there are few rows: these take the steps of
// k by turns in several sets, added at the end.
MZ_PANEL constexpr int phases_for(int rows) { return rows == 1 ? 4 : (rows <= 3 ? 2 : 1); }

// Rows by threes from five base pointers: p, p + stride and p + 2 stride are addressing modes, so
// that 14 rows need 6 general registers instead of 14.
constexpr int kRowsPerBase = 3;
constexpr int kBases = (kMaxRows + kRowsPerBase - 1) / kRowsPerBase;

// How a panel holds its codes, and one step of it as codes + kOffset.
struct Int8Panel {
  static constexpr int kMaxRows = 14;
  static constexpr int32_t kOffset = kVnniOffset;
  static constexpr int64_t kStepBytes = kVnniPanel * kVnniStep;
  [[gnu::always_inline]] static inline void load(const std::byte* step, __m512i (&w)[kVectors]) {
    w[0] = _mm512_loadu_si512(step);
    w[1] = _mm512_loadu_si512(step + kStepBytes / kVectors);
  }
};

// Nibbles in two's complement: their sign bits are flipped.
struct Int4Panel {
  static constexpr int kMaxRows = 12;  // two constants and a temporary take the other registers
  static constexpr int32_t kOffset = 8;
  static constexpr int64_t kStepBytes = kNibbleStepBytes;
  [[gnu::always_inline]] static inline void load(const std::byte* step, __m512i (&w)[kVectors]) {
    const __m512i low = _mm512_set1_epi8(0xf);
    const __m512i flip = _mm512_set1_epi8(kOffset);
    const __m512i pair = _mm512_loadu_si512(step);
    w[0] = _mm512_xor_si512(_mm512_and_si512(pair, low), flip);
    w[1] = _mm512_xor_si512(_mm512_and_si512(_mm512_srli_epi16(pair, 4), low), flip);
  }
};

template <typename Panel, int kRows>
MZ_PANEL void dot_step(const int8_t* const (&base)[kBases], int64_t stride, int64_t k,
                       const std::byte* step, __m512i (&acc)[kRows][kVectors]) {
  __m512i w[kVectors];
  Panel::load(step, w);
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    const __m512i x = broadcast_int(base[i / kRowsPerBase] + i % kRowsPerBase * stride + k);
    acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], w[0], x);
    acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], w[1], x);
  }
}

// Rows in equal groups: 16 is 8 + 8, not 14 + 2.
struct Groups {
  int64_t m_begin, rows, largest;
  MZ_PANEL int64_t count() const { return (rows + largest - 1) / largest; }
  MZ_PANEL int64_t begin(int64_t g) const { return m_begin + rows * g / count(); }
};

// Where group g begins to ask: a single group for what it reads 8 KB later, several for their parts
// of the next panel, which waits for all of them.
template <typename Panel>
MZ_PANEL const std::byte* ask_from(const std::byte* w, int64_t panel_bytes, const Groups& groups,
                                   int64_t g, int64_t steps) {
  constexpr int64_t kFarAhead = 8192;
  if (groups.count() == 1) return w + kFarAhead;
  const auto rows = static_cast<int>(groups.begin(g + 1) - groups.begin(g));
  return w + panel_bytes + g * (steps / kUnroll) * lines_ahead<Panel>(rows) * kLine % panel_bytes;
}

}  // namespace mezzotint::avx512_vnni

#undef MZ_PANEL
