// MXFP4 times MXFP4 and its dual-level form by vpdpbusd, the sums of every block of 32 exact.
//
// Twice an e2m1 value is an integer of [-12, 12]. Weights are 2 w + 12 (unsigned, in registers),
// activations 2 x (signed, {1to16} broadcasts); every sum starts at -12 * sum(2 x) of its block,
// which takes the 12 off again. A finished sum s becomes s * 2^(x exponent + w exponent) by
// vscalefps and is added to float sums in the first-level cache.
//
// vpdpbusd runs on two of Zen 4's four vector pipes, vcvtdq2ps, vaddps and vscalefps on the others
// (vmulps does not), so that scaling is free where it is interleaved: while the 12 sums of one half
// of a panel (16 columns) take their 96 dot products, those of the other half are scaled, one per 8
// dot products. Weights are expanded from nibbles by vpshufb where they are used. 24 sums, 1
// register of weights, 1 of exponents, the table, the mask and 2 temporary.

#include "kernels/cpu/avx512/transpose.h"
#include "kernels/cpu/avx512_vnni/panel.h"
#include "kernels/nibble_panels_layout.h"
#include "kernels/panel_rows.h"
#include "numerics/dual_level.h"
#include "numerics/e2m1.h"
#include "numerics/e8m0.h"

namespace mezzotint::avx512_vnni {
namespace {

constexpr int kMaxRows = 12;
constexpr int kSteps = 8;   // of 4 k in a block
constexpr int kHalves = 2;  // of a panel
constexpr int kDotsPerScaling = 8;
constexpr int64_t kWordBytes = 4;

// A block of a group of rows of x: 32 codes per row, then -12 * sum per row, then the exponent per
// row as a float.
constexpr int64_t kRowBlockBytes = kNibbleBlock + 2 * kWordBytes;

// Blocks of k at a time: the x of 120 rows (461 KB) and a panel (48 KB of nibbles, 12 KB of
// exponents) share a second-level cache of 1 MB. A multiple of 16, the blocks of a dual scale.
constexpr int64_t kMaxChunk = 96;
constexpr int64_t kDualBlocks = kDualBlock / kNibbleBlock;

constexpr int64_t chunks_of(int64_t blocks) { return (blocks + kMaxChunk - 1) / kMaxChunk; }
constexpr int64_t chunk_blocks(int64_t blocks) {
  const int64_t even = (blocks + chunks_of(blocks) - 1) / chunks_of(blocks);
  return (even + kDualBlocks - 1) / kDualBlocks * kDualBlocks;
}
static_assert(chunk_blocks(96) == 96 && chunk_blocks(160) == 80 && chunk_blocks(432) == 96);

// The sums of a group of rows and a panel: [2 halves][rows][16 columns].
constexpr int64_t kSumsPerRow = kNibblePanel;

constexpr int kOffset = 12;

// Twice the value of the 16 e2m1 codes, plus 12.
[[gnu::always_inline]] inline __m128i raised_table() {
  alignas(16) int8_t table[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    table[i] = static_cast<int8_t>(e2m1_doubled(static_cast<uint8_t>(i)) + kOffset);
  }
  return _mm_load_si128(reinterpret_cast<const __m128i*>(table));
}
// --- the hot loop --------------------------------------------------------------------------------

// 16 outputs x 4 k: the low nibbles of a step are half 0 of a panel, the high ones half 1.
struct Expander {
  __m512i table, low;
  template <int kHalf>
  [[gnu::always_inline]] inline __m512i half(const std::byte* step) const {
    const __m512i pair = _mm512_loadu_si512(step);
    const __m512i codes = kHalf == 0 ? pair : _mm512_srli_epi16(pair, 4);
    return _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low));
  }
};

// dots += weights * the 4 codes at x, which the instruction itself broadcasts; from the intrinsic
// g++ makes a broadcast and a product, and the front end then limits (93 instead of 96 % of the
// peak).
[[gnu::always_inline]] inline void add_products(__m512i& dots, __m512i weights, const int8_t* x) {
  using Word [[gnu::may_alias]] = int32_t;
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(dots)
      : "v"(weights), "m"(*reinterpret_cast<const Word*>(x)));
}

[[gnu::always_inline]] inline void add_scaled(__m512i dots, __m512 exponents, float* sums) {
  const __m512 scaled = _mm512_scalef_ps(_mm512_cvtepi32_ps(dots), exponents);
  _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), scaled));
}

// Where the sums of the half before are scaled and what they start with next.
struct Finished {
  __m512 w_exponents;
  const int8_t* x_exponents;  // of its block
  float* sums;
  const int8_t* starts;  // of the block that its registers take next
};

// All dot products of half kHalf of a block, and the scaling of the half before.
template <int kRows, int kHalf>
[[gnu::always_inline]] inline void half_block(const int8_t* x, const std::byte* w,
                                              const Expander& expander, __m512i (&dots)[kRows],
                                              __m512i (&done)[kRows], const Finished& finished) {
#pragma GCC unroll 8
  for (int step = 0; step < kSteps; ++step) {
    const std::byte* place = w + step * kNibbleStepBytes;
    const __m512i weights = expander.half<kHalf>(place);
    if (kHalf == 0) _mm_prefetch(place + kNibbleBlockBytes, _MM_HINT_T0);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      add_products(dots[i], weights, x + i * kNibbleBlock + step * kNibbleStep);
      const int count = step * kRows + i;
      if (count % kDotsPerScaling == kDotsPerScaling / 2) {
        const int q = count / kDotsPerScaling;
        add_scaled(done[q],
                   _mm512_add_ps(finished.w_exponents,
                                 broadcast_float(finished.x_exponents + q * kWordBytes)),
                   finished.sums + q * kLanes);
        done[q] = broadcast_int(finished.starts + q * kWordBytes);
        asm volatile("" ::: "memory");  // the compiler would gather the scaling at the end
      }
    }
  }
}

// Lines of the next panel's nibbles that a block asks for, so that they have come when they are
// expanded: a panel has 8 per block, and few rows mean few groups to share them.
constexpr int lines_ahead(int rows) { return rows <= 4 ? 8 : (rows <= 8 ? 4 : 2); }
constexpr int64_t kLine = 64;

// A chunk of a panel.
struct Panel {
  const std::byte* w;
  const float* exponents;  // [blocks][32]
  const std::byte* next;   // what to ask memory for
};

// sums += x w^T over `blocks` blocks; reads the starts of one block more.
template <int kRows>
void mxfp4_blocks_hot(const int8_t* x, const Panel& panel, int64_t blocks, float* sums) noexcept {
  constexpr int64_t kStarts = kRows * kNibbleBlock;
  constexpr int64_t kExponents = kStarts + kRows * kWordBytes;
  constexpr int64_t kBlockBytes = kRows * kRowBlockBytes;
  const Expander expander = {_mm512_broadcast_i32x4(raised_table()), _mm512_set1_epi8(0xf)};
  const std::byte* w = panel.w;
  const std::byte* next = panel.next;
  const float* exponents = panel.exponents;
  __m512i left[kRows], right[kRows];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
    left[i] = broadcast_int(x + kStarts + i * kWordBytes);
    right[i] = _mm512_setzero_si512();
  }
  float* right_sums = sums + kRows * kLanes;
  Finished before = {_mm512_setzero_ps(), x + kExponents, right_sums, nullptr};
  for (; blocks > 0; --blocks) {
    before.starts = x + kStarts;
    for (int line = 0; line < lines_ahead(kRows); ++line) {
      _mm_prefetch(next + line * kLine, _MM_HINT_T1);
    }
    next += lines_ahead(kRows) * kLine;
    half_block<kRows, 0>(x, w, expander, left, right, before);
    half_block<kRows, 1>(
        x, w, expander, right, left,
        {_mm512_load_ps(exponents), x + kExponents, sums, x + kBlockBytes + kStarts});
    before.w_exponents = _mm512_load_ps(exponents + kLanes);
    before.x_exponents = x + kExponents;
    x += kBlockBytes;
    w += kNibbleBlockBytes;
    exponents += kNibblePanel;
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
    add_scaled(
        right[i],
        _mm512_add_ps(before.w_exponents, broadcast_float(before.x_exponents + i * kWordBytes)),
        right_sums + i * kLanes);
  }
}

using BlocksFn = void (*)(const int8_t*, const Panel&, int64_t, float*) noexcept;
constexpr BlocksFn kBlocksFns[kMaxRows + 1] = {nullptr,
                                               mxfp4_blocks_hot<1>,
                                               mxfp4_blocks_hot<2>,
                                               mxfp4_blocks_hot<3>,
                                               mxfp4_blocks_hot<4>,
                                               mxfp4_blocks_hot<5>,
                                               mxfp4_blocks_hot<6>,
                                               mxfp4_blocks_hot<7>,
                                               mxfp4_blocks_hot<8>,
                                               mxfp4_blocks_hot<9>,
                                               mxfp4_blocks_hot<10>,
                                               mxfp4_blocks_hot<11>,
                                               mxfp4_blocks_hot<12>};

}  // namespace
}  // namespace mezzotint::avx512_vnni

#include "kernels/cpu/avx512_vnni/mxfp4_operands.inl"

namespace mezzotint::avx512_vnni {
namespace {

// --- tiles ---------------------------------------------------------------------------------------

// Rows in equal groups of at most 12: 16 is 8 + 8.
struct Groups {
  int64_t m_begin, rows, count;
  int64_t begin(int64_t g) const { return m_begin + rows * g / count; }
  int64_t size(int64_t g) const { return rows * (g + 1) / count - rows * g / count; }
};

struct Scratch {
  int8_t* x;         // rows in groups, a chunk each
  float* exponents;  // of a chunk of a panel
  float* part;       // sums of 512 k of one group, dual level only
  float* sums;       // of every panel of the tile where there are several chunks, else of one
};

// Behind x the hot loop reads the starts of a block that is none.
constexpr int64_t kXBytes =
    kPanelTileM * kMaxChunk * kRowBlockBytes + kMaxRows * (kRowBlockBytes + kNibbleBlock);
constexpr int64_t aligned(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }
constexpr int64_t kExponentBytes = kMaxChunk * kNibblePanel * kWordBytes;
constexpr int64_t kPartBytes = kMaxRows * kSumsPerRow * kWordBytes;

int64_t scratch_bytes(int64_t k, int64_t tile_n) {
  const int64_t columns = chunks_of(nibble_blocks(k)) == 1 ? kNibblePanel : tile_n;
  return aligned(kXBytes) + kExponentBytes + kPartBytes + kPanelTileM * columns * kWordBytes;
}

Scratch split_scratch(std::byte* scratch) {
  std::byte* exponents = scratch + aligned(kXBytes);
  std::byte* part = exponents + kExponentBytes;
  return {reinterpret_cast<int8_t*>(scratch), reinterpret_cast<float*>(exponents),
          reinterpret_cast<float*>(part), reinterpret_cast<float*>(part + kPartBytes)};
}

// sums += part * (x scale * w scale), and part = 0.
void add_dual(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, int64_t dual_block,
              float* part, float* sums) {
  const int64_t stride = dual_blocks(tile.k);
  for (int half = 0; half < kHalves; ++half) {
    alignas(64) float w_scale[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) {
      const int64_t column = n + half * kLanes + j;
      w_scale[j] = column < tile.n ? tile.w_dual_scale[column * stride + dual_block] : 0.0f;
    }
    const __m512 w = _mm512_load_ps(w_scale);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t place = (half * rows + i) * kLanes;
      const __m512 scale =
          _mm512_mul_ps(w, broadcast_float(tile.x_dual_scale + (m + i) * stride + dual_block));
      const __m512 scaled = _mm512_mul_ps(_mm512_load_ps(part + place), scale);
      _mm512_store_ps(sums + place, _mm512_add_ps(_mm512_load_ps(sums + place), scaled));
      _mm512_store_ps(part + place, _mm512_setzero_ps());
    }
  }
}

[[gnu::noinline]] void write_group(const LinearTile& tile, int64_t m, int64_t rows, int64_t n,
                                   const float* sums) {
  const int64_t bytes = float_size(tile.y_type);
  for (int half = 0; half < kHalves; ++half) {
    const __mmask16 mask = column_mask(tile.n_end - n, half);
    const int64_t column = n + half * kLanes;
    const __m512 bias = tile.bias == nullptr ? _mm512_setzero_ps()
                                             : _mm512_maskz_loadu_ps(mask, tile.bias + column);
    for (int64_t i = 0; i < rows; ++i) {
      const __m512 sum = _mm512_load_ps(sums + (half * rows + i) * kLanes);
      store16(static_cast<char*>(tile.y) + ((m + i) * tile.y_stride + column) * bytes, tile.y_type,
              mask, _mm512_add_ps(sum, bias));
    }
  }
}

// One group of rows times one panel.
void multiply(const LinearTile& tile, const Chunk& chunk, int64_t m, int64_t rows, int64_t n,
              const int8_t* x, const Panel& panel, float* part, float* sums) {
  if (tile.w_dual_scale == nullptr) {
    kBlocksFns[rows](x, panel, chunk.blocks, sums);
    return;
  }
  for (int64_t b = 0; b < chunk.blocks; b += kDualBlocks) {
    const int64_t count = chunk.blocks - b < kDualBlocks ? chunk.blocks - b : kDualBlocks;
    kBlocksFns[rows](x + b * rows * kRowBlockBytes,
                     {panel.w + b * kNibbleBlockBytes, panel.exponents + b * kNibblePanel,
                      panel.next + b * lines_ahead(static_cast<int>(rows)) * kLine},
                     count, part);
    add_dual(tile, m, rows, n, (chunk.first + b) / kDualBlocks, part, sums);
  }
}

void run_chunk(const LinearTile& tile, const Groups& groups, const Chunk& chunk,
               const Scratch& scratch) {
  const bool first = chunk.first == 0;
  const bool last = chunk.first + chunk.blocks == nibble_blocks(tile.k);
  const auto x_of = [&](int64_t g) {
    return scratch.x + (groups.begin(g) - groups.m_begin) * chunk.blocks * kRowBlockBytes;
  };
  for (int64_t g = 0; g < groups.count; ++g) {
    for (int64_t i = 0; i < groups.size(g); ++i) {
      convert_row(tile, groups.begin(g) + i, chunk, groups.size(g), i, x_of(g));
      convert_row_exponents(tile, groups.begin(g) + i, chunk, groups.size(g), i, x_of(g));
    }
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    expand_exponents(tile, n, chunk, scratch.exponents);
    expand_exponents(tile, n + kLanes, chunk, scratch.exponents + kLanes);
    const int64_t panel_bytes = chunk.blocks * kNibbleBlockBytes;
    const std::byte* w = tile.w + nibble_offset(n, chunk.first * kNibbleBlock, tile.k);
    const std::byte* next = w + nibble_panel_bytes(tile.k);
    float* panel_sums = scratch.sums + (first && last ? 0 : (n - tile.n_begin) * groups.rows);
    for (int64_t g = 0; g < groups.count; ++g) {
      const int64_t m = groups.begin(g), rows = groups.size(g);
      float* sums = panel_sums + (m - groups.m_begin) * kSumsPerRow;
      if (first) __builtin_memset(sums, 0, static_cast<size_t>(rows * kSumsPerRow * kWordBytes));
      const int64_t asked = g * chunk.blocks * lines_ahead(static_cast<int>(rows)) * kLine;
      const Panel panel = {w, scratch.exponents, next + asked % panel_bytes};
      multiply(tile, chunk, m, rows, n, x_of(g), panel, scratch.part, sums);
      if (last) write_group(tile, m, rows, n, sums);
    }
  }
}

}  // namespace

int64_t mxfp4_wide_scratch_bytes(int64_t k) { return scratch_bytes(k, kWideTileN); }
int64_t mxfp4_narrow_scratch_bytes(int64_t k) { return scratch_bytes(k, kNarrowTileN); }

void mxfp4_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  const Groups groups = {tile.m_begin, rows, (rows + kMaxRows - 1) / kMaxRows};
  const Scratch scratch = split_scratch(tile.scratch);
  __builtin_memset(scratch.part, 0, static_cast<size_t>(kPartBytes));
  const int64_t blocks = nibble_blocks(tile.k);
  const int64_t step = chunk_blocks(blocks);
  for (int64_t first = 0; first < blocks; first += step) {
    run_chunk(tile, groups, {first, blocks - first < step ? blocks - first : step}, scratch);
  }
}

}  // namespace mezzotint::avx512_vnni
