// What the rows of this folder over kNibblePanels share: a panel expanded into scratch, [2][k/4][16
// outputs][4 k] as codes + offset, once per tile of rows (one row: in registers), and the dot
// products of a block of 32 k by vpmaddubsw and 16-bit sums. Included by int4_linear.cc and
// mxfp4_linear.cc.
//
// Nothing saturates: a lane of a block adds 16 products, of int4 15 * 128 * 16 = 30720, of doubled
// e2m1 24 * 12 * 16 = 4608. vpmaddwd by ones then gives the sums of 4 k in 32 bits.
//
// A tile of 4 rows x 16 outputs: 8 sums, 2 registers of weights, 1 of x, 1 of products, ones.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/output.h"
#include "kernels/nibble_panels_layout.h"
#include "kernels/panel_rows.h"
#include "numerics/e2m1.h"

namespace mezzotint::avx2 {
namespace {

constexpr int kRows = 4;
constexpr int kVectors = 2;  // of 8 outputs
constexpr int64_t kLanes = 8;
constexpr int64_t kColumns = kVectors * kLanes;
constexpr int64_t kSteps = kNibbleBlock / kNibbleStep;
constexpr int64_t kStepBytes = kColumns * kNibbleStep;  // of a half of an expanded panel
constexpr int64_t kWordBytes = 4;

constexpr int64_t padded_depth(int64_t k) { return nibble_blocks(k) * kNibbleBlock; }

constexpr int32_t kInt4Offset = 8;
constexpr int32_t kE2M1Offset = 12;

[[gnu::always_inline]] inline __m256i broadcast_int(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}

// dots[i][v] = sums over the block of x[i] times codes + offset, for 16 outputs.
template <int rows>
[[gnu::always_inline]] inline void multiply_block(const int8_t* x, int64_t x_stride,
                                                  const uint8_t* w,
                                                  __m256i (&dots)[rows][kVectors]) {
#pragma GCC unroll 8
  for (int64_t step = 0; step < kSteps; ++step) {
    const auto* place = reinterpret_cast<const __m256i*>(w + step * kStepBytes);
    const __m256i w0 = _mm256_load_si256(place), w1 = _mm256_load_si256(place + 1);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const __m256i codes = broadcast_int(x + i * x_stride + step * kNibbleStep);
      const __m256i p0 = _mm256_maddubs_epi16(w0, codes), p1 = _mm256_maddubs_epi16(w1, codes);
      dots[i][0] = step == 0 ? p0 : _mm256_add_epi16(dots[i][0], p0);
      dots[i][1] = step == 0 ? p1 : _mm256_add_epi16(dots[i][1], p1);
      // Integer sums: the compiler would add them up as a tree, whose leaves spill.
      asm("" : "+x"(dots[i][0]), "+x"(dots[i][1]));
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
    dots[i][0] = _mm256_madd_epi16(dots[i][0], _mm256_set1_epi16(1));
    dots[i][1] = _mm256_madd_epi16(dots[i][1], _mm256_set1_epi16(1));
  }
}

// --- one row -------------------------------------------------------------------------------------

// One row uses a code once: nibbles become bytes in registers and weights stream by. Bytes ahead in
// the panel, which goes on with the next one: to the second-level cache, which keeps more misses in
// flight than the first, and from there.
constexpr int64_t kFarAhead = 8192;
constexpr int64_t kNearAhead = 1024;
constexpr int kPanelVectors = kNibblePanel / kLanes;

// Looks codes up in a table of bytes.
struct Nibbles {
  __m256i table, low;
  [[gnu::always_inline]] __m256i lower(__m256i pairs) const {
    return _mm256_shuffle_epi8(table, _mm256_and_si256(pairs, low));
  }
  [[gnu::always_inline]] __m256i upper(__m256i pairs) const {
    return lower(_mm256_srli_epi16(pairs, 4));
  }
};

// dots = sums over the block of x times codes + offset, for 32 outputs.
[[gnu::always_inline]] inline void multiply_row_block(const int8_t* x, const std::byte* w,
                                                      const Nibbles& nibbles,
                                                      __m256i (&dots)[kPanelVectors]) {
#pragma GCC unroll 8
  for (int64_t step = 0; step < kSteps; ++step) {
    const std::byte* place = w + step * kNibbleStepBytes;
    _mm_prefetch(place + kFarAhead, _MM_HINT_T1);
    _mm_prefetch(place + kNearAhead, _MM_HINT_T0);
    const __m256i pairs0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
    const __m256i pairs1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place) + 1);
    const __m256i codes = broadcast_int(x + step * kNibbleStep);
    const __m256i products[kPanelVectors] = {_mm256_maddubs_epi16(nibbles.lower(pairs0), codes),
                                             _mm256_maddubs_epi16(nibbles.lower(pairs1), codes),
                                             _mm256_maddubs_epi16(nibbles.upper(pairs0), codes),
                                             _mm256_maddubs_epi16(nibbles.upper(pairs1), codes)};
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) {
      dots[v] = step == 0 ? products[v] : _mm256_add_epi16(dots[v], products[v]);
      asm("" : "+x"(dots[v]));
    }
  }
#pragma GCC unroll 4
  for (__m256i& dot : dots) dot = _mm256_madd_epi16(dot, _mm256_set1_epi16(1));
}

// --- expanded panels -----------------------------------------------------------------------------

// 16 codes of four bits as bytes + offset.
__m128i table_of(Element element) {
  alignas(16) int8_t table[16];
  for (int i = 0; i < 16; ++i) {
    table[i] = static_cast<int8_t>(element == Element::kInt4
                                       ? i ^ kInt4Offset
                                       : e2m1_doubled(static_cast<uint8_t>(i)) + kE2M1Offset);
  }
  return _mm_load_si128(reinterpret_cast<const __m128i*>(table));
}

Nibbles nibbles_of(Element element) {
  return {_mm256_broadcastsi128_si256(table_of(element)), _mm256_set1_epi8(0xf)};
}

// The outputs from j on, 0 or 16, of an expanded panel.
constexpr int64_t expanded_place(int64_t j, int64_t blocks) {
  return j / kColumns * blocks * kSteps * kStepBytes;
}

void expand_panel(const std::byte* w, int64_t blocks, Element element, uint8_t* panel) {
  static_assert(kNibbleStepBytes == kStepBytes);
  const Nibbles nibbles = nibbles_of(element);
  auto* lower = reinterpret_cast<__m256i*>(panel);
  auto* upper = reinterpret_cast<__m256i*>(panel + expanded_place(kColumns, blocks));
  const auto* from = reinterpret_cast<const __m256i*>(w);
  for (int64_t i = 0; i < blocks * kNibbleBlockBytes / int64_t{sizeof(__m256i)}; ++i) {
    const __m256i pairs = _mm256_loadu_si256(from + i);
    _mm256_store_si256(lower + i, nibbles.lower(pairs));
    _mm256_store_si256(upper + i, nibbles.upper(pairs));
  }
}

int64_t panel_bytes(int64_t k) { return padded_depth(k) * kNibblePanel; }

// y of `rows` rows from m on and 16 outputs from n on: sums and bias.
void write_floats(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, const float* sums) {
  for (int64_t first = n; first < n + kColumns && first < tile.n_end; first += kLanes) {
    const __m256 bias =
        tile.bias == nullptr ? _mm256_setzero_ps() : load8(tile.bias + first, tile.n_end - first);
    for (int64_t i = 0; i < rows; ++i) {
      const __m256 sum = _mm256_load_ps(sums + i * kColumns + first - n);
      store8(tile, m + i, first, _mm256_add_ps(sum, bias));
    }
  }
}

}  // namespace
}  // namespace mezzotint::avx2
