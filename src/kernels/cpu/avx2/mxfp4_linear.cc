// kNibblePanels weights for processors without VNNI: MXFP4 and its dual-level form.

#include "kernels/cpu/avx2/mx_scales.h"
#include "kernels/cpu/avx2/nibble_blocks.inl"
#include "kernels/cpu/avx2/transpose.h"
#include "numerics/dual_level.h"

namespace mezzotint::avx2 {
namespace {

constexpr int64_t kDualBlocks = kDualBlock / kNibbleBlock;

// Blocks of rows of x: codes as above, -12 * sum(2 x), and the scale's half as floats.
struct MxRows {
  const int8_t* x;
  int64_t x_stride;
  const int32_t* starts;  // [rows][blocks]
  const float* scales;
  int64_t blocks;  // stride of both
};

// total += dot times both scales, powers of two: exact but for the sum unless the result leaves the
// floats.
template <Scales kScales>
[[gnu::always_inline]] inline void add_scaled(__m256 dot, __m256 w_scale, __m256 x_scale,
                                              float* total) {
  if constexpr (kScales == Scales::kMild) {
    const __m256 scaled = _mm256_mul_ps(dot, w_scale);
    _mm256_store_ps(total, _mm256_fmadd_ps(scaled, x_scale, _mm256_load_ps(total)));
    return;
  }
  // The smaller one first; no minimum, which would lose a NaN.
  const __m256 swap = _mm256_cmp_ps(w_scale, x_scale, _CMP_GT_OQ);
  const __m256 first = _mm256_blendv_ps(w_scale, x_scale, swap);
  const __m256 second = _mm256_blendv_ps(x_scale, w_scale, swap);
  const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(dot, first), second);
  _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), scaled));
}

// 16 of the sums[i] += over `count` blocks.
template <Scales kScales, int rows>
[[gnu::noinline]] void mxfp4_blocks_hot(const MxRows& in, const uint8_t* w, const float* w_scales,
                                        int64_t count, Ahead ahead, float* sums) noexcept {
  for (int64_t b = 0; b < count; ++b) {
    ahead.ask();
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
        add_scaled<kScales>(dot, w_scale, x_scale, sums + i * kTileColumns + v * kLanes);
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
      add_scaled<kScales>(dot, w_scale, x_scale, sums + v * kLanes);
    }
  }
}

// --- operands ------------------------------------------------------------------------------------

// 32 codes, zeros behind `count`.
[[gnu::always_inline]] inline __m256i load_codes(const int8_t* codes, int64_t count) {
  if (count >= kNibbleBlock) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  alignas(32) int8_t block[kNibbleBlock] = {};
  __builtin_memcpy(block, codes, static_cast<size_t>(count));
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(block));
}

// Twice the values of a block of codes, and what vpsadbw makes of them plus 12: four sums.
[[gnu::always_inline]] inline __m256i convert_block(__m256i codes, __m256i table, int8_t* x) {
  const __m256i raised = _mm256_shuffle_epi8(table, codes);
  _mm256_store_si256(reinterpret_cast<__m256i*>(x),
                     _mm256_sub_epi8(raised, _mm256_set1_epi8(kE2M1Offset)));
  return _mm256_sad_epu8(raised, _mm256_setzero_si256());
}

// -12 * the sums of twice the values of 4 blocks.
[[gnu::always_inline]] inline __m128i starts_of(const __m256i (&sums)[4]) {
  const __m256i even = _mm256_or_si256(sums[0], _mm256_slli_epi64(sums[2], 32));
  const __m256i odd = _mm256_or_si256(sums[1], _mm256_slli_epi64(sums[3], 32));
  const __m256i all = _mm256_or_si256(even, _mm256_slli_epi64(odd, 16));  // words of a block each
  const __m128i two = _mm_add_epi16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  const __m128i sum = _mm_cvtepu16_epi32(_mm_add_epi16(two, _mm_srli_si128(two, 8)));
  constexpr auto kRaised = kE2M1Offset * static_cast<int32_t>(kNibbleBlock);
  return _mm_mullo_epi32(_mm_sub_epi32(_mm_set1_epi32(kRaised), sum), _mm_set1_epi32(kE2M1Offset));
}

// One row of MX codes as twice their values, `blocks` blocks from k on, zeros up to whole blocks,
// and what belongs to a block.
void convert_row(const LinearTile& tile, int64_t m, int64_t k, int64_t blocks, int8_t* x,
                 int32_t* starts, float* scales) {
  constexpr int64_t kStep = 4;
  const __m256i table = _mm256_broadcastsi128_si256(table_of(Element::kE2M1));
  const int8_t* codes = tile.xq + m * tile.xq_stride + k;
  const uint8_t* bytes = tile.x_block_scale + m * nibble_blocks(tile.k) + k / kNibbleBlock;
  int64_t b = 0;
  for (; b + kStep <= blocks && k + (b + kStep) * kNibbleBlock <= tile.k; b += kStep) {
    __m256i sums[kStep];
#pragma GCC unroll 4
    for (int64_t i = 0; i < kStep; ++i) {
      const int64_t at = (b + i) * kNibbleBlock;
      // The next row, whose codes are not the next in memory.
      _mm_prefetch(codes + at + tile.xq_stride, _MM_HINT_T0);
      sums[i] = convert_block(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + at)),
                              table, x + at);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(starts + b), starts_of(sums));
  }
  for (; b < blocks; ++b) {
    const int64_t at = b * kNibbleBlock;
    const __m256i sums[kStep] = {
        convert_block(load_codes(codes + at, tile.k - k - at), table, x + at)};
    starts[b] = _mm_cvtsi128_si32(starts_of(sums));
  }
  for (int64_t i = 0; i < blocks; ++i) scales[i] = half_scale(bytes[i]);
}

// total[outputs] += part * (x scale * w scale) for a row, and part = 0. w_scales: of the outputs.
void add_dual(float x_scale, const float* w_scales, int64_t outputs, float* part, float* total) {
  for (int64_t j = 0; j < outputs; j += kLanes) {
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_load_ps(w_scales + j));
    const __m256 added = _mm256_mul_ps(_mm256_load_ps(part + j), scale);
    _mm256_store_ps(total + j, _mm256_add_ps(_mm256_load_ps(total + j), added));
    _mm256_store_ps(part + j, _mm256_setzero_ps());
  }
}

// --- tiles ---------------------------------------------------------------------------------------

using MxFn = void (*)(const MxRows&, const uint8_t*, const float*, int64_t, Ahead, float*) noexcept;
template <Scales kScales>
constexpr MxFn kMxFns[kRows + 1] = {nullptr, mxfp4_blocks_hot<kScales, 1>,
                                    mxfp4_blocks_hot<kScales, 2>, mxfp4_blocks_hot<kScales, 3>,
                                    mxfp4_blocks_hot<kScales, 4>};

// A block of k of a tile is made of blocks of dual scales.
constexpr int64_t kTileBlocks = kTileDepth / kNibbleBlock;
constexpr int64_t kTileDuals = kTileDepth / kDualBlock;
static_assert(kTileDepth % kDualBlock == 0 && kFewRowsDepth % kDualBlock == 0);
constexpr int64_t kXStride = kTileDepth + kLine;

struct TileScratch {
  alignas(64) float totals[kPanelTileM * kTileColumns];
  alignas(64) float part[kRows * kTileColumns];  // sums of one dual scale; zeros between calls
  alignas(64) float w_scales[kTileBlocks * kNibblePanel];
  alignas(64) float w_duals[kTileDuals * kNibblePanel];
  alignas(64) uint8_t panel[kTileDepth * kNibblePanel];
  alignas(64) int8_t x[kPanelTileM * kXStride];
  int32_t starts[kPanelTileM * kTileBlocks];
  float scales[kPanelTileM * kTileBlocks];
};

struct MxForm {
  static constexpr Element kElement = Element::kE2M1;
  const LinearTile& tile;
  TileScratch& scratch;
  int64_t blocks = 0;
  int64_t first_dual = 0;
  Scales range = Scales::kMild;

  void take_rows(int64_t k, int64_t count) {
    blocks = count;
    first_dual = k / kDualBlock;
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      const int64_t i = m - tile.m_begin;
      convert_row(tile, m, k, count, scratch.x + i * kXStride, scratch.starts + i * kTileBlocks,
                  scratch.scales + i * kTileBlocks);
    }
  }
  void take_panel(int64_t n, int64_t k, int64_t count) {
    const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
    const int64_t stride = nibble_blocks(tile.k);
    range = half_scales(tile.w_block_scale + n * stride + k / kNibbleBlock, stride, count, columns,
                        scratch.w_scales);
    if (tile.w_dual_scale == nullptr) return;
    const int64_t duals = dual_blocks(tile.k);
    const float* values = tile.w_dual_scale + n * duals + first_dual;
    for (int64_t dual = 0; dual < dual_blocks(count * kNibbleBlock); ++dual) {
      for (int64_t c = 0; c < kNibblePanel; ++c) {
        scratch.w_duals[dual * kNibblePanel + c] = c < columns ? values[c * duals + dual] : 0.0f;
      }
    }
  }
  void multiply(int64_t m, int64_t rows, int64_t n, const uint8_t* w, Ahead ahead) {
    const MxFn run =
        range == Scales::kMild ? kMxFns<Scales::kMild>[rows] : kMxFns<Scales::kLarge>[rows];
    const MxRows in = {scratch.x + m * kXStride, kXStride, scratch.starts + m * kTileBlocks,
                       scratch.scales + m * kTileBlocks, kTileBlocks};
    const int64_t j = n % kNibblePanel;
    float* totals = scratch.totals + m * kTileColumns + n;
    if (tile.w_dual_scale == nullptr) {
      return run(in, w, scratch.w_scales + j, blocks, ahead, totals);
    }
    const int64_t duals = dual_blocks(tile.k);
    const float* x_scales = tile.x_dual_scale + (tile.m_begin + m) * duals + first_dual;
    for (int64_t first = 0; first < blocks; first += kDualBlocks) {
      const int64_t dual = first / kDualBlocks, rest = blocks - first;
      const int64_t count = rest < kDualBlocks ? rest : kDualBlocks;
      run({in.x + first * kNibbleBlock, kXStride, in.starts + first, in.scales + first,
           kTileBlocks},
          w + first * kSteps * kStepBytes, scratch.w_scales + first * kNibblePanel + j, count,
          ahead, scratch.part);
      ahead.next += count * ahead.lines * kLine;
      for (int64_t i = 0; i < rows; ++i) {
        add_dual(x_scales[i * duals + dual], scratch.w_duals + dual * kNibblePanel + j, kColumns,
                 scratch.part + i * kTileColumns, totals + i * kTileColumns);
      }
    }
  }
};

// --- one row -------------------------------------------------------------------------------------

// Of the one row, and of a panel: [blocks][32] and [dual blocks][32].
struct RowScratch {
  float* w_scales;
  float* w_duals;
  float* scales;
  int32_t* starts;
  int8_t* x;
};
RowScratch row_scratch(std::byte* place, int64_t k) {
  RowScratch scratch = {};
  scratch.w_scales = reinterpret_cast<float*>(place);
  scratch.w_duals = scratch.w_scales + nibble_blocks(k) * kNibblePanel;
  scratch.x = reinterpret_cast<int8_t*>(scratch.w_duals + dual_blocks(k) * kNibblePanel);
  scratch.scales = reinterpret_cast<float*>(scratch.x + padded_depth(k));
  scratch.starts = reinterpret_cast<int32_t*>(scratch.scales + nibble_blocks(k));
  return scratch;
}
int64_t row_scratch_bytes(int64_t k) {
  return (nibble_blocks(k) + dual_blocks(k)) * kNibblePanel * kWordBytes + padded_depth(k) +
         2 * nibble_blocks(k) * kWordBytes;
}

// The outputs of the panel at n; in a file scales stand output by output.
void multiply_row_panel(const LinearTile& tile, const RowScratch& in, int64_t n) {
  const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
  const int64_t blocks = nibble_blocks(tile.k), duals = dual_blocks(tile.k);
  const Scales range =
      half_scales(tile.w_block_scale + n * blocks, blocks, blocks, columns, in.w_scales);
  const auto multiply =
      range == Scales::kMild ? mxfp4_row_hot<Scales::kMild> : mxfp4_row_hot<Scales::kLarge>;
  const MxRows x = {in.x, 0, in.starts, in.scales, blocks};
  const std::byte* w = tile.w + nibble_offset(n, 0, tile.k);
  alignas(32) float total[kNibblePanel] = {}, part[kNibblePanel] = {};
  if (tile.w_dual_scale == nullptr) {
    multiply(x, w, in.w_scales, 0, blocks, total);
  } else {
    transpose_columns(tile.w_dual_scale + n * duals, duals, duals, columns, in.w_duals);
    for (int64_t dual = 0; dual < duals; ++dual) {
      const int64_t first = dual * kDualBlocks, rest = blocks - first;
      multiply(x, w, in.w_scales, first, rest < kDualBlocks ? rest : kDualBlocks, part);
      add_dual(tile.x_dual_scale[tile.m_begin * duals + dual], in.w_duals + dual * kNibblePanel,
               kNibblePanel, part, total);
    }
  }
  for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kLanes) {
    store8(tile, tile.m_begin, n + j,
           _mm256_add_ps(_mm256_load_ps(total + j), bias_of(tile, n + j)));
  }
}

}  // namespace

int64_t mxfp4_scratch_bytes(int64_t k) {
  constexpr auto kTileBytes = static_cast<int64_t>(sizeof(TileScratch));
  return row_scratch_bytes(k) < kTileBytes ? kTileBytes : row_scratch_bytes(k);
}

void mxfp4_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  if (rows == 1) {
    const RowScratch scratch = row_scratch(tile.scratch, tile.k);
    convert_row(tile, tile.m_begin, 0, nibble_blocks(tile.k), scratch.x, scratch.starts,
                scratch.scales);
    for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
      multiply_row_panel(tile, scratch, n);
    }
    return;
  }
  auto& scratch = *reinterpret_cast<TileScratch*>(tile.scratch);
  __builtin_memset(scratch.totals, 0, static_cast<size_t>(rows * kTileColumns * kWordBytes));
  __builtin_memset(scratch.part, 0, sizeof scratch.part);
  MxForm form = {tile, scratch};
  run_blocks(tile, tile_depth(rows), scratch.panel, form);
  write_floats(tile, nullptr, scratch.totals);
}

}  // namespace mezzotint::avx2
