// What the rows of this folder over kNibblePanels share: a tile that goes through k in blocks,
// whose x and panel stay in the first-level cache while sums wait in scratch; a block of a panel
// expanded into scratch, [2][k/4][16 outputs][4 k] as codes + offset, once per tile of rows (one
// row: in registers); and the dot products of a block of 32 k by vpmaddubsw and 16-bit sums.
// Included by int4_linear.cc and mxfp4_linear.cc.
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

constexpr int64_t kLine = 64;

constexpr int64_t padded_depth(int64_t k) { return nibble_blocks(k) * kNibbleBlock; }

// Blocks of k of a tile of few rows: 16 KB of expanded panel and, of 16 rows, 8 KB of x. More rows
// use what stands in the second-level cache often enough: fewer calls and sums to write.
constexpr int64_t kFewRows = 32;
constexpr int64_t kFewRowsDepth = 512;
constexpr int64_t kTileDepth = 1024;
int64_t tile_depth(int64_t rows) { return rows <= kFewRows ? kFewRowsDepth : kTileDepth; }
constexpr int64_t kTileColumns = kNarrowTileN;
static_assert(kTileColumns == kInt4TileN);

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

// --- tiles ---------------------------------------------------------------------------------------

// What a call asks the second-level cache for meanwhile: `lines` lines per block of 32 k. All of
// them at once, before the products or while a panel is expanded, would wait for each other.
struct Ahead {
  const std::byte* next;
  int64_t lines;
  [[gnu::always_inline]] void ask() {
    for (int64_t i = 0; i < lines; ++i) _mm_prefetch(next + i * kLine, _MM_HINT_T1);
    next += lines * kLine;
  }
};

// The rows and outputs of a tile, `depth` k at a time. `Form` says what meets:
//   kElement
//   take_rows(k, blocks)                  x from k on, blocks of 32 k
//   take_panel(n, k, blocks)              what belongs to 32 outputs and these blocks
//   multiply(m, rows, n, w, ahead)        at most kRows rows from m on, 16 outputs from n on, of an
//                                         expanded panel, into sums; m and n count from the tile's
template <typename Form>
void run_blocks(const LinearTile& tile, int64_t depth, uint8_t* panel, Form& form) {
  const int64_t rows = tile.m_end - tile.m_begin, groups = (rows + kRows - 1) / kRows;
  constexpr int64_t kLines = kNibbleBlockBytes / kLine;
  const int64_t calls = groups * (kNibblePanel / kColumns);
  const int64_t lines = (kLines + calls - 1) / calls;
  for (int64_t k = 0; k < tile.k; k += depth) {
    const int64_t blocks = nibble_blocks(tile.k - k < depth ? tile.k - k : depth);
    form.take_rows(k, blocks);
    for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
      const std::byte* w = tile.w + nibble_offset(n, k, tile.k);
      const std::byte* next = n + kNibblePanel >= tile.n_end && k + depth < tile.k
                                  ? tile.w + nibble_offset(tile.n_begin, k + depth, tile.k)
                                  : w + nibble_panel_bytes(tile.k);
      expand_panel(w, blocks, Form::kElement, panel);
      form.take_panel(n, k, blocks);
      int64_t asked = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t m = rows * g / groups, count = rows * (g + 1) / groups - m;
        for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
          const Ahead ahead = {next + asked * blocks * kLine, asked < kLines ? lines : 0};
          asked += ahead.lines;
          form.multiply(m, count, n + j - tile.n_begin, panel + expanded_place(j, blocks), ahead);
        }
      }
    }
  }
}

// Calls write(m, n, j) for 8 outputs from n on, the j-th of their panel, so that a line of y is
// written at once; begin(n) before each panel.
template <typename Begin, typename Write>
[[gnu::always_inline]] inline void write_panels(const LinearTile& tile, const Begin& begin,
                                                const Write& write) {
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    const int64_t rest = tile.n_end - n;
    begin(n);
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      for (int64_t j = 0; j < kNibblePanel && j < rest; j += kLanes) write(m, n + j, j / kLanes);
    }
  }
}

[[gnu::always_inline]] inline __m256 bias_of(const LinearTile& tile, int64_t n) {
  return tile.bias == nullptr ? _mm256_setzero_ps() : load8(tile.bias + n, tile.n_end - n);
}

// y of the tile: sums, [rows][kTileColumns], each row times its scale if there is one, and bias.
void write_floats(const LinearTile& tile, const float* x_scale, const float* sums) {
  __m256 bias[kPanelVectors];
  const auto begin = [&](int64_t n) __attribute__((always_inline)) {
    for (int v = 0; v < kPanelVectors; ++v) {
      bias[v] = n + v * kLanes < tile.n_end ? bias_of(tile, n + v * kLanes) : _mm256_setzero_ps();
    }
  };
  write_panels(tile, begin, [&](int64_t m, int64_t n, int64_t v) __attribute__((always_inline)) {
    const __m256 sum = _mm256_load_ps(sums + (m - tile.m_begin) * kTileColumns + n - tile.n_begin);
    const __m256 scaled = x_scale == nullptr ? sum : _mm256_mul_ps(sum, _mm256_set1_ps(x_scale[m]));
    store8(tile, m, n, _mm256_add_ps(scaled, bias[v]));
  });
}

}  // namespace
}  // namespace mezzotint::avx2
