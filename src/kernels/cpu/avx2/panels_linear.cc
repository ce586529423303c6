// kNibblePanels weights for processors without VNNI: int4 by integer codes of x, and MXFP4 with its
// dual-level form, by vpmaddubsw and 16-bit sums.
//
// A panel is expanded into scratch, [k/4][32 outputs][4 k] as codes + offset, once per tile of
// rows. Nothing saturates: a lane of a block of 32 k adds 16 products, of int4 15 * 128 * 16 =
// 30720, of doubled e2m1 24 * 12 * 16 = 4608. vpmaddwd by ones then gives the sums of 4 k in 32
// bits.
//
// A tile of 4 rows x 16 outputs: 8 sums, 2 registers of weights, 1 of x, 1 of products, ones.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/output.h"
#include "kernels/nibble_panels_layout.h"
#include "kernels/panel_rows.h"
#include "numerics/dual_level.h"
#include "numerics/e2m1.h"
#include "numerics/e8m0.h"

namespace mezzotint::avx2 {
namespace {

constexpr int kRows = 4;
constexpr int kVectors = 2;  // of 8 outputs
constexpr int64_t kLanes = 8;
constexpr int64_t kColumns = kVectors * kLanes;
constexpr int64_t kSteps = kNibbleBlock / kNibbleStep;
constexpr int64_t kStepBytes = kNibblePanel * kNibbleStep;  // of an expanded panel
constexpr int64_t kWordBytes = 4;
constexpr int64_t kDualBlocks = kDualBlock / kNibbleBlock;

constexpr int64_t padded_depth(int64_t k) { return nibble_blocks(k) * kNibbleBlock; }

// --- a block of 32 k -----------------------------------------------------------------------------

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

// --- int4 ----------------------------------------------------------------------------------------

constexpr int32_t kInt4Offset = 8;

// sums[i][16] += over `blocks` blocks.
template <int rows>
[[gnu::noinline]] void int4_blocks_hot(const int8_t* x, int64_t x_stride, const uint8_t* w,
                                       int64_t blocks, int32_t* sums) noexcept {
  for (int64_t b = 0; b < blocks; ++b) {
    __m256i dots[rows][kVectors];
    multiply_block<rows>(x, x_stride, w, dots);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        auto* place = reinterpret_cast<__m256i*>(sums + i * kColumns + v * kLanes);
        _mm256_store_si256(place, _mm256_add_epi32(_mm256_load_si256(place), dots[i][v]));
      }
    }
    x += kNibbleBlock;
    w += kSteps * kStepBytes;
  }
}

// --- MXFP4 ---------------------------------------------------------------------------------------

constexpr int32_t kE2M1Offset = 12;

// Blocks of rows of x: codes as above, -12 * sum(2 x), and the scale's half as floats.
struct MxRows {
  const int8_t* x;
  int64_t x_stride;
  const int32_t* starts;  // [rows][blocks]
  const float* scales;
  int64_t blocks;  // stride of both
};

// sums[i][16] += over `count` blocks from `first` on. Scales are powers of two: both products are
// exact unless they leave the floats.
template <int rows>
[[gnu::noinline]] void mxfp4_blocks_hot(const MxRows& in, const uint8_t* w, const float* w_scales,
                                        int64_t first, int64_t count, float* sums) noexcept {
  for (int64_t b = first; b < first + count; ++b) {
    __m256i dots[rows][kVectors];
    multiply_block<rows>(in.x + b * kNibbleBlock, in.x_stride, w + b * kSteps * kStepBytes, dots);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const __m256i start = broadcast_int(in.starts + i * in.blocks + b);
      const __m256 x_scale = _mm256_broadcast_ss(in.scales + i * in.blocks + b);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const __m256 dot = _mm256_cvtepi32_ps(_mm256_add_epi32(dots[i][v], start));
        const __m256 w_scale = _mm256_load_ps(w_scales + b * kNibblePanel + v * kLanes);
        const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(dot, w_scale), x_scale);
        float* place = sums + i * kColumns + v * kLanes;
        _mm256_store_ps(place, _mm256_add_ps(_mm256_load_ps(place), scaled));
      }
    }
  }
}

// --- operands ------------------------------------------------------------------------------------

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

void expand_panel(const std::byte* w, int64_t blocks, Element element, uint8_t* panel) {
  const __m256i table = _mm256_broadcastsi128_si256(table_of(element));
  const __m256i low = _mm256_set1_epi8(0xf);
  for (int64_t i = 0; i < blocks * kNibbleBlockBytes; i += kNibbleStepBytes, panel += kStepBytes) {
    for (int64_t half = 0; half < kNibbleStepBytes; half += kNibbleStepBytes / 2) {
      const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + i + half));
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
      auto* place = reinterpret_cast<__m256i*>(panel + half);
      _mm256_store_si256(place, _mm256_shuffle_epi8(table, _mm256_and_si256(pair, low)));
      _mm256_store_si256(place + kNibbleStepBytes / 32, _mm256_shuffle_epi8(table, high));
    }
  }
}

// Half the scale: doubling both operands has multiplied by 4. 2^-128 of byte 0 is exact, too.
float half_scale(uint8_t byte) { return e8m0_to_float(byte) * 0.5f; }

// [blocks][32 outputs]; 0 where there is no output.
void expand_scales(const LinearTile& tile, int64_t n, float* scales) {
  const int64_t blocks = nibble_blocks(tile.k);
  for (int64_t j = 0; j < kNibblePanel; ++j) {
    const uint8_t* bytes = tile.w_block_scale + (n + j) * blocks;
    for (int64_t b = 0; b < blocks; ++b) {
      scales[b * kNibblePanel + j] = n + j < tile.n ? half_scale(bytes[b]) : 0.0f;
    }
  }
}

// 32 codes, zeros behind `count`.
__m256i load_codes(const int8_t* codes, int64_t count) {
  if (count >= kNibbleBlock) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  alignas(32) int8_t block[kNibbleBlock] = {};
  __builtin_memcpy(block, codes, static_cast<size_t>(count));
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(block));
}

// One row of MX codes as twice their values, zeros up to whole blocks, and what belongs to a block.
void convert_row(const LinearTile& tile, int64_t m, int8_t* x, int32_t* starts, float* scales) {
  const __m256i table = _mm256_broadcastsi128_si256(table_of(Element::kE2M1));
  const __m256i offset = _mm256_set1_epi8(kE2M1Offset);
  const int8_t* codes = tile.xq + m * tile.xq_stride;
  const int64_t blocks = nibble_blocks(tile.k);
  for (int64_t b = 0; b < blocks; ++b) {
    const __m256i raised =
        _mm256_shuffle_epi8(table, load_codes(codes + b * kNibbleBlock, tile.k - b * kNibbleBlock));
    const __m256i sums = _mm256_sad_epu8(raised, _mm256_setzero_si256());
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const auto sum = static_cast<int32_t>(_mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1));
    _mm256_store_si256(reinterpret_cast<__m256i*>(x + b * kNibbleBlock),
                       _mm256_sub_epi8(raised, offset));
    starts[b] = -kE2M1Offset * (sum - kE2M1Offset * static_cast<int32_t>(kNibbleBlock));
    scales[b] = half_scale(tile.x_block_scale[m * blocks + b]);
  }
}

// --- tiles ---------------------------------------------------------------------------------------

constexpr int64_t kLine = 64;

int64_t panel_bytes(int64_t k) { return padded_depth(k) * kNibblePanel; }

// `rows` rows from m on, 16 outputs from n on.
void write_int4(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, const int32_t* sums) {
  for (int64_t first = n; first < n + kColumns && first < tile.n_end; first += kLanes) {
    const Int8Columns columns = int8_columns(tile, first);
    for (int64_t i = 0; i < rows; ++i) {
      const int32_t* place = sums + i * kColumns + first - n;
      const __m256i offset = _mm256_set1_epi32(kInt4Offset * tile.x_sum[m + i]);
      const __m256i acc =
          _mm256_sub_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(place)), offset);
      write_int8(tile, m + i, first, columns, acc);
    }
  }
}

void write_mxfp4(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, const float* sums) {
  for (int64_t first = n; first < n + kColumns && first < tile.n_end; first += kLanes) {
    const __m256 bias =
        tile.bias == nullptr ? _mm256_setzero_ps() : load8(tile.bias + first, tile.n_end - first);
    for (int64_t i = 0; i < rows; ++i) {
      const __m256 sum = _mm256_load_ps(sums + i * kColumns + first - n);
      store8(tile, m + i, first, _mm256_add_ps(sum, bias));
    }
  }
}

// total += part * (x scale * w scale) for a row of at most 16 outputs, and part = 0.
void add_dual(const LinearTile& tile, int64_t m, int64_t n, int64_t dual, float* part,
              float* total) {
  const int64_t stride = dual_blocks(tile.k);
  const float x_scale = tile.x_dual_scale[m * stride + dual];
  for (int64_t j = 0; j < kColumns; ++j) {
    const float w_scale = n + j < tile.n ? tile.w_dual_scale[(n + j) * stride + dual] : 0.0f;
    total[j] = total[j] + part[j] * (x_scale * w_scale);
    part[j] = 0.0f;
  }
}

using Int4Fn = void (*)(const int8_t*, int64_t, const uint8_t*, int64_t, int32_t*) noexcept;
constexpr Int4Fn kInt4Fns[kRows + 1] = {nullptr, int4_blocks_hot<1>, int4_blocks_hot<2>,
                                        int4_blocks_hot<3>, int4_blocks_hot<4>};
using MxFn = void (*)(const MxRows&, const uint8_t*, const float*, int64_t, int64_t,
                      float*) noexcept;
constexpr MxFn kMxFns[kRows + 1] = {nullptr, mxfp4_blocks_hot<1>, mxfp4_blocks_hot<2>,
                                    mxfp4_blocks_hot<3>, mxfp4_blocks_hot<4>};

// `rows` rows from m on, 16 outputs from n on.
void multiply_mx(const LinearTile& tile, const MxRows& in, const uint8_t* w, const float* w_scales,
                 int64_t m, int64_t rows, int64_t n) {
  alignas(32) float total[kRows * kColumns] = {};
  if (tile.w_dual_scale == nullptr) {
    kMxFns[rows](in, w, w_scales, 0, in.blocks, total);
  } else {
    alignas(32) float part[kRows * kColumns] = {};
    for (int64_t first = 0; first < in.blocks; first += kDualBlocks) {
      const int64_t rest = in.blocks - first;
      kMxFns[rows](in, w, w_scales, first, rest < kDualBlocks ? rest : kDualBlocks, part);
      for (int64_t i = 0; i < rows; ++i) {
        add_dual(tile, m + i, n, first / kDualBlocks, part + i * kColumns, total + i * kColumns);
      }
    }
  }
  write_mxfp4(tile, m, rows, n, total);
}

}  // namespace

int64_t int4_panels_scratch_bytes(int64_t k) { return panel_bytes(k); }

void int4_panels_linear(const LinearTile& tile) noexcept {
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch);
  const int64_t blocks = nibble_blocks(tile.k);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    expand_panel(tile.w + nibble_offset(n, 0, tile.k), blocks, Element::kInt4, panel);
    for (int64_t m = tile.m_begin; m < tile.m_end; m += kRows) {
      const int64_t rows = tile.m_end - m < kRows ? tile.m_end - m : kRows;
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        alignas(32) int32_t sums[kRows * kColumns] = {};
        kInt4Fns[rows](tile.xq + m * tile.xq_stride, tile.xq_stride, panel + j * kNibbleStep,
                       blocks, sums);
        write_int4(tile, m, rows, n + j, sums);
      }
    }
  }
}

int64_t mxfp4_scratch_bytes(int64_t k) {
  const int64_t blocks = nibble_blocks(k);
  return kPanelTileM * (padded_depth(k) + 2 * blocks * kWordBytes) + 3 * kLine + panel_bytes(k) +
         blocks * kNibblePanel * kWordBytes;
}

void mxfp4_linear(const LinearTile& tile) noexcept {
  const int64_t blocks = nibble_blocks(tile.k), depth = padded_depth(tile.k);
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch);
  auto* w_scales = reinterpret_cast<float*>(panel + panel_bytes(tile.k));
  auto* x = reinterpret_cast<int8_t*>(w_scales + blocks * kNibblePanel);
  auto* starts = reinterpret_cast<int32_t*>(x + kPanelTileM * depth);
  auto* scales = reinterpret_cast<float*>(starts + kPanelTileM * blocks);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    const int64_t i = m - tile.m_begin;
    convert_row(tile, m, x + i * depth, starts + i * blocks, scales + i * blocks);
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    expand_panel(tile.w + nibble_offset(n, 0, tile.k), blocks, Element::kE2M1, panel);
    expand_scales(tile, n, w_scales);
    for (int64_t m = tile.m_begin; m < tile.m_end; m += kRows) {
      const int64_t i = m - tile.m_begin;
      const int64_t rows = tile.m_end - m < kRows ? tile.m_end - m : kRows;
      const MxRows in = {x + i * depth, depth, starts + i * blocks, scales + i * blocks, blocks};
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        multiply_mx(tile, in, panel + j * kNibbleStep, w_scales + j, m, rows, n + j);
      }
    }
  }
}

}  // namespace mezzotint::avx2
