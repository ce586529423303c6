// kNibblePanels weights for processors without VNNI: MXFP4 and its dual-level form.

#include "kernels/cpu/avx2/mx_scales.h"
#include "kernels/cpu/avx2/nibble_blocks.inl"
#include "kernels/cpu/avx2/transpose.h"
#include "numerics/dual_level.h"

namespace mezzotint::avx2 {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kDualBlocks = kDualBlock / kNibbleBlock;

// Blocks of rows of x: codes as above, -12 * sum(2 x), and the scale's half as floats.
struct MxRows {
  const int8_t* x;
  int64_t x_stride;
  const int32_t* starts;  // [rows][blocks]
  const float* scales;
  int64_t blocks;  // stride of both
};

// Sums times both scales, powers of two: exact unless the result leaves the floats.
template <Scales kScales>
[[gnu::always_inline]] inline __m256 scaled(__m256 dot, __m256 w_scale, __m256 x_scale) {
  if constexpr (kScales == Scales::kMild) {
    return _mm256_mul_ps(_mm256_mul_ps(dot, w_scale), x_scale);
  }
  // The smaller one first; no minimum, which would lose a NaN.
  const __m256 swap = _mm256_cmp_ps(w_scale, x_scale, _CMP_GT_OQ);
  const __m256 first = _mm256_blendv_ps(w_scale, x_scale, swap);
  const __m256 second = _mm256_blendv_ps(x_scale, w_scale, swap);
  return _mm256_mul_ps(_mm256_mul_ps(dot, first), second);
}

// sums[i][16] += over `count` blocks from `first` on.
template <Scales kScales, int rows>
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
        float* place = sums + i * kColumns + v * kLanes;
        _mm256_store_ps(
            place, _mm256_add_ps(_mm256_load_ps(place), scaled<kScales>(dot, w_scale, x_scale)));
      }
    }
  }
}

// One row: sums[32] += over `count` blocks from `first` on.
template <Scales kScales>
[[gnu::noinline]] void mxfp4_row_hot(const MxRows& in, const std::byte* w, const float* w_scales,
                                     int64_t first, int64_t count, float* sums) noexcept {
  const Nibbles nibbles = nibbles_of(Element::kE2M1);
  for (int64_t b = first; b < first + count; ++b) {
    __m256i dots[kPanelVectors];
    multiply_row_block(in.x + b * kNibbleBlock, w + b * kNibbleBlockBytes, nibbles, dots);
    const __m256i start = broadcast_int(in.starts + b);
    const __m256 x_scale = _mm256_broadcast_ss(in.scales + b);
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m256 dot = _mm256_cvtepi32_ps(_mm256_add_epi32(dots[v], start));
      const __m256 w_scale = _mm256_load_ps(w_scales + b * kNibblePanel + v * kLanes);
      float* place = sums + v * kLanes;
      _mm256_store_ps(place,
                      _mm256_add_ps(_mm256_load_ps(place), scaled<kScales>(dot, w_scale, x_scale)));
    }
  }
}

// --- operands ------------------------------------------------------------------------------------

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

// total[outputs] += part * (x scale * w scale) for a row, and part = 0. w_dual:[dual blocks][32],
// from the first of the outputs on.
void add_dual(const LinearTile& tile, int64_t m, int64_t dual, const float* w_dual, int64_t outputs,
              float* part, float* total) {
  const __m256 x_scale = _mm256_broadcast_ss(tile.x_dual_scale + m * dual_blocks(tile.k) + dual);
  for (int64_t j = 0; j < outputs; j += kLanes) {
    const __m256 scale = _mm256_mul_ps(x_scale, _mm256_load_ps(w_dual + dual * kNibblePanel + j));
    const __m256 added = _mm256_mul_ps(_mm256_load_ps(part + j), scale);
    _mm256_store_ps(total + j, _mm256_add_ps(_mm256_load_ps(total + j), added));
    _mm256_store_ps(part + j, _mm256_setzero_ps());
  }
}

// Calls multiply(first, count, sums) for all blocks of k, or by the blocks of a dual scale, whose
// sums come to [rows][outputs] of total by way of part.
template <typename Multiply>
void by_dual_blocks(const LinearTile& tile, int64_t m, int64_t rows, const float* w_dual,
                    int64_t outputs, float* part, float* total, const Multiply& multiply) {
  const int64_t blocks = nibble_blocks(tile.k);
  if (tile.w_dual_scale == nullptr) return multiply(0, blocks, total);
  for (int64_t first = 0; first < blocks; first += kDualBlocks) {
    const int64_t rest = blocks - first;
    multiply(first, rest < kDualBlocks ? rest : kDualBlocks, part);
    for (int64_t i = 0; i < rows; ++i) {
      add_dual(tile, m + i, first / kDualBlocks, w_dual, outputs, part + i * outputs,
               total + i * outputs);
    }
  }
}

using MxFn = void (*)(const MxRows&, const uint8_t*, const float*, int64_t, int64_t,
                      float*) noexcept;
template <Scales kScales>
constexpr MxFn kMxFns[kRows + 1] = {nullptr, mxfp4_blocks_hot<kScales, 1>,
                                    mxfp4_blocks_hot<kScales, 2>, mxfp4_blocks_hot<kScales, 3>,
                                    mxfp4_blocks_hot<kScales, 4>};

// Scales of a panel, output by output in the file: [blocks][32] and [dual blocks][32].
struct PanelScales {
  float* blocks;
  float* duals;
  Scales range;
};
void load_scales(const LinearTile& tile, int64_t n, PanelScales& scales) {
  const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
  const int64_t blocks = nibble_blocks(tile.k), duals = dual_blocks(tile.k);
  scales.range = half_scales(tile.w_block_scale + n * blocks, blocks, columns, scales.blocks);
  if (tile.w_dual_scale == nullptr) return;
  transpose_columns(tile.w_dual_scale + n * duals, duals, columns, scales.duals);
}

// `rows` rows from m on, 16 outputs from n on: the panel's from j on.
void multiply_mx(const LinearTile& tile, const MxRows& in, const uint8_t* panel,
                 const PanelScales& scales, int64_t m, int64_t rows, int64_t n, int64_t j) {
  const MxFn multiply =
      scales.range == Scales::kMild ? kMxFns<Scales::kMild>[rows] : kMxFns<Scales::kLarge>[rows];
  alignas(32) float total[kRows * kColumns] = {}, part[kRows * kColumns] = {};
  by_dual_blocks(tile, m, rows, scales.duals + j, kColumns, part, total,
                 [&](int64_t first, int64_t count, float* sums) {
                   multiply(in, panel + expanded_place(j, in.blocks), scales.blocks + j, first,
                            count, sums);
                 });
  write_floats(tile, m, rows, n + j, total);
}

// One row, the 32 outputs from n on.
void multiply_mx_row(const LinearTile& tile, const MxRows& in, const PanelScales& scales,
                     int64_t n) {
  const auto multiply =
      scales.range == Scales::kMild ? mxfp4_row_hot<Scales::kMild> : mxfp4_row_hot<Scales::kLarge>;
  const std::byte* w = tile.w + nibble_offset(n, 0, tile.k);
  alignas(32) float total[kNibblePanel] = {}, part[kNibblePanel] = {};
  by_dual_blocks(tile, tile.m_begin, 1, scales.duals, kNibblePanel, part, total,
                 [&](int64_t first, int64_t count, float* sums) {
                   multiply(in, w, scales.blocks, first, count, sums);
                 });
  for (int64_t j = 0; j < kNibblePanel; j += kColumns) {
    write_floats(tile, tile.m_begin, 1, n + j, total + j);
  }
}

}  // namespace

int64_t mxfp4_scratch_bytes(int64_t k) {
  const int64_t blocks = nibble_blocks(k);
  return kPanelTileM * (padded_depth(k) + 2 * blocks * kWordBytes) + 3 * kLine + panel_bytes(k) +
         (blocks + dual_blocks(k)) * kNibblePanel * kWordBytes;
}

void mxfp4_linear(const LinearTile& tile) noexcept {
  const int64_t blocks = nibble_blocks(tile.k), depth = padded_depth(tile.k);
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch);
  PanelScales w_scales = {};
  w_scales.blocks = reinterpret_cast<float*>(panel + panel_bytes(tile.k));
  w_scales.duals = w_scales.blocks + blocks * kNibblePanel;
  auto* x = reinterpret_cast<int8_t*>(w_scales.duals + dual_blocks(tile.k) * kNibblePanel);
  auto* starts = reinterpret_cast<int32_t*>(x + kPanelTileM * depth);
  auto* scales = reinterpret_cast<float*>(starts + kPanelTileM * blocks);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    const int64_t i = m - tile.m_begin;
    convert_row(tile, m, x + i * depth, starts + i * blocks, scales + i * blocks);
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    load_scales(tile, n, w_scales);
    if (tile.m_end - tile.m_begin == 1) {
      multiply_mx_row(tile, {x, depth, starts, scales, blocks}, w_scales, n);
      continue;
    }
    expand_panel(tile.w + nibble_offset(n, 0, tile.k), blocks, Element::kE2M1, panel);
    for (int64_t m = tile.m_begin; m < tile.m_end; m += kRows) {
      const int64_t i = m - tile.m_begin;
      const int64_t rows = tile.m_end - m < kRows ? tile.m_end - m : kRows;
      const MxRows in = {x + i * depth, depth, starts + i * blocks, scales + i * blocks, blocks};
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        multiply_mx(tile, in, panel, w_scales, m, rows, n, j);
      }
    }
  }
}

}  // namespace mezzotint::avx2
