// kNibblePanels weights for processors without VNNI: MXFP4 and its dual-level form.

#include "kernels/cpu/avx2/nibble_blocks.inl"
#include "numerics/dual_level.h"
#include "numerics/e8m0.h"

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

// Whether a sum of products (at most 4608) times a scale of w stays in the floats, before the scale
// of x makes it smaller.
enum class Scales : uint8_t { kMild, kLarge };
constexpr int kLargestMildByte = 243;  // 4608 * 2^(243 - 128) < 2^128

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

// --- operands ------------------------------------------------------------------------------------

// Half the scale: doubling both operands has multiplied by 4. 2^-128 of byte 0 is exact, too.
float half_scale(uint8_t byte) { return e8m0_to_float(byte) * 0.5f; }

// [blocks][32 outputs]; 0 where there is no output.
Scales expand_scales(const LinearTile& tile, int64_t n, float* scales) {
  const int64_t blocks = nibble_blocks(tile.k);
  uint8_t largest = 0;
  for (int64_t j = 0; j < kNibblePanel; ++j) {
    const uint8_t* bytes = tile.w_block_scale + (n + j) * blocks;
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t byte = n + j < tile.n ? bytes[b] : 0;
      largest = byte > largest ? byte : largest;
      scales[b * kNibblePanel + j] = n + j < tile.n ? half_scale(byte) : 0.0f;
    }
  }
  return largest <= kLargestMildByte ? Scales::kMild : Scales::kLarge;
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

using MxFn = void (*)(const MxRows&, const uint8_t*, const float*, int64_t, int64_t,
                      float*) noexcept;
template <Scales kScales>
constexpr MxFn kMxFns[kRows + 1] = {nullptr, mxfp4_blocks_hot<kScales, 1>,
                                    mxfp4_blocks_hot<kScales, 2>, mxfp4_blocks_hot<kScales, 3>,
                                    mxfp4_blocks_hot<kScales, 4>};

// `rows` rows from m on, 16 outputs from n on.
void multiply_mx(const LinearTile& tile, const MxRows& in, const uint8_t* w, const float* w_scales,
                 Scales range, int64_t m, int64_t rows, int64_t n) {
  const MxFn multiply =
      range == Scales::kMild ? kMxFns<Scales::kMild>[rows] : kMxFns<Scales::kLarge>[rows];
  alignas(32) float total[kRows * kColumns] = {};
  if (tile.w_dual_scale == nullptr) {
    multiply(in, w, w_scales, 0, in.blocks, total);
  } else {
    alignas(32) float part[kRows * kColumns] = {};
    for (int64_t first = 0; first < in.blocks; first += kDualBlocks) {
      const int64_t rest = in.blocks - first;
      multiply(in, w, w_scales, first, rest < kDualBlocks ? rest : kDualBlocks, part);
      for (int64_t i = 0; i < rows; ++i) {
        add_dual(tile, m + i, n, first / kDualBlocks, part + i * kColumns, total + i * kColumns);
      }
    }
  }
  write_floats(tile, m, rows, n, total);
}

}  // namespace

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
    const Scales range = expand_scales(tile, n, w_scales);
    for (int64_t m = tile.m_begin; m < tile.m_end; m += kRows) {
      const int64_t i = m - tile.m_begin;
      const int64_t rows = tile.m_end - m < kRows ? tile.m_end - m : kRows;
      const MxRows in = {x + i * depth, depth, starts + i * blocks, scales + i * blocks, blocks};
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        multiply_mx(tile, in, panel + j * kNibbleStep, w_scales + j, range, m, rows, n + j);
      }
    }
  }
}

}  // namespace mezzotint::avx2
