// kNibblePanels weights for processors without VNNI: codes of x times int4, with one scale per
// output or per group of k.

#include "kernels/cpu/avx2/nibble_blocks.inl"
#include "kernels/cpu/avx2/transpose.h"

namespace mezzotint::avx2 {
namespace {

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

// One row: the sums over `blocks` blocks for 32 outputs.
[[gnu::always_inline]] inline void sum_row(const int8_t* x, const std::byte* w, int64_t blocks,
                                           const Nibbles& nibbles, __m256i (&sums)[kPanelVectors]) {
#pragma GCC unroll 4
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t b = 0; b < blocks; ++b) {
    __m256i dots[kPanelVectors];
    multiply_row_block(x + b * kNibbleBlock, w + b * kNibbleBlockBytes, nibbles, dots);
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) sums[v] = _mm256_add_epi32(sums[v], dots[v]);
  }
}
[[gnu::noinline]] void int4_row_hot(const int8_t* x, const std::byte* w, int64_t blocks,
                                    int32_t* sums) noexcept {
  __m256i acc[kPanelVectors];
  sum_row(x, w, blocks, nibbles_of(Element::kInt4), acc);
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors; ++v) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + v * kLanes), acc[v]);
  }
}

using Int4Fn = void (*)(const int8_t*, int64_t, const uint8_t*, int64_t, int32_t*) noexcept;
constexpr Int4Fn kInt4Fns[kRows + 1] = {nullptr, int4_blocks_hot<1>, int4_blocks_hot<2>,
                                        int4_blocks_hot<3>, int4_blocks_hot<4>};
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

}  // namespace

int64_t int4_panels_scratch_bytes(int64_t k) { return panel_bytes(k); }

void int4_panels_linear(const LinearTile& tile) noexcept {
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch);
  const int64_t blocks = nibble_blocks(tile.k), m = tile.m_begin;
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    const std::byte* w = tile.w + nibble_offset(n, 0, tile.k);
    if (tile.m_end - m == 1) {
      alignas(32) int32_t sums[kNibblePanel];
      int4_row_hot(tile.xq + m * tile.xq_stride, w, blocks, sums);
      for (int64_t j = 0; j < kNibblePanel; j += kColumns) write_int4(tile, m, 1, n + j, sums + j);
      continue;
    }
    expand_panel(w, blocks, Element::kInt4, panel);
    for (int64_t first = m; first < tile.m_end; first += kRows) {
      const int64_t rows = tile.m_end - first < kRows ? tile.m_end - first : kRows;
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        alignas(32) int32_t sums[kRows * kColumns] = {};
        kInt4Fns[rows](tile.xq + first * tile.xq_stride, tile.xq_stride,
                       panel + expanded_place(j, blocks), blocks, sums);
        write_int4(tile, first, rows, n + j, sums);
      }
    }
  }
}

// --- int4 in groups: their integer sums, then floats ---------------------------------------------

int64_t int4_groups_scratch_bytes(int64_t k) {
  return panel_bytes(k) + (kInt4TileM + kNibblePanel) * (k / kInt4ShortestGroup) * kWordBytes;
}

namespace {

// 8 * the sum of the codes of x, group by group: what the offset of the weights adds.
void group_offsets(const int8_t* x, int64_t group, int64_t groups, int32_t* offsets) {
  for (int64_t g = 0; g < groups; ++g, x += group) {
    int32_t sum = 0;
    for (int64_t k = 0; k < group; ++k) sum += x[k];
    offsets[g] = kInt4Offset * sum;
  }
}

// What a tile of rows and 16 outputs reads.
struct GroupOperands {
  const uint8_t* w;        // expanded panel, from its 16 outputs on
  const float* scales;     // [groups][32], likewise
  const int32_t* offsets;  // [rows][groups]
  int64_t groups;
};

// y of totals [rows][16], of which a row has one scale of x.
void write_scaled(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, float* total) {
  for (int64_t i = 0; i < rows; ++i) {
    const __m256 x_scale = _mm256_set1_ps(tile.x_scale[m + i]);
    for (int64_t j = 0; j < kColumns; j += kLanes) {
      float* place = total + i * kColumns + j;
      _mm256_store_ps(place, _mm256_mul_ps(_mm256_load_ps(place), x_scale));
    }
  }
  write_floats(tile, m, rows, n, total);
}

// `rows` rows from m on, 16 outputs from n on.
void multiply_groups(const LinearTile& tile, const GroupOperands& in, int64_t m, int64_t rows,
                     int64_t n) {
  const int64_t blocks = tile.w_group / kNibbleBlock;
  alignas(32) float total[kRows * kColumns] = {};
  for (int64_t g = 0; g < in.groups; ++g) {
    alignas(32) int32_t sums[kRows * kColumns] = {};
    kInt4Fns[rows](tile.xq + m * tile.xq_stride + g * tile.w_group, tile.xq_stride,
                   in.w + g * blocks * kSteps * kStepBytes, blocks, sums);
    for (int64_t i = 0; i < rows; ++i) {
      const __m256i offset = _mm256_set1_epi32(in.offsets[i * in.groups + g]);
      for (int64_t j = 0; j < kColumns; j += kLanes) {
        const int64_t place = i * kColumns + j;
        const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + place));
        const __m256 dots = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, offset));
        const __m256 scale = _mm256_load_ps(in.scales + g * kNibblePanel + j);
        _mm256_store_ps(total + place, _mm256_fmadd_ps(dots, scale, _mm256_load_ps(total + place)));
      }
    }
  }
  write_scaled(tile, m, rows, n, total);
}

// One row, the 32 outputs from n on: totals of its groups in the first-level cache.
[[gnu::noinline]] void int4_group_row_hot(const int8_t* x, const std::byte* w,
                                          const GroupOperands& in, int64_t blocks,
                                          float* total) noexcept {
  const Nibbles nibbles = nibbles_of(Element::kInt4);
  for (int64_t g = 0; g < in.groups; ++g) {
    __m256i sums[kPanelVectors];
    sum_row(x, w, blocks, nibbles, sums);
    const __m256i offset = broadcast_int(in.offsets + g);
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m256 dots = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[v], offset));
      const __m256 scale = _mm256_load_ps(in.scales + g * kNibblePanel + v * kLanes);
      float* place = total + v * kLanes;
      _mm256_store_ps(place, _mm256_fmadd_ps(dots, scale, _mm256_load_ps(place)));
    }
    x += blocks * kNibbleBlock;
    w += blocks * kNibbleBlockBytes;
  }
}

}  // namespace

void int4_groups_linear(const LinearTile& tile) noexcept {
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch);
  const int64_t groups = tile.k / tile.w_group, blocks = nibble_blocks(tile.k);
  auto* scales = reinterpret_cast<float*>(panel + panel_bytes(tile.k));
  auto* offsets = reinterpret_cast<int32_t*>(scales + groups * kNibblePanel);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    group_offsets(tile.xq + m * tile.xq_stride, tile.w_group, groups,
                  offsets + (m - tile.m_begin) * groups);
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    const std::byte* w = tile.w + nibble_offset(n, 0, tile.k);
    const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
    transpose_columns(tile.w_scale + n * groups, groups, columns, scales);
    if (tile.m_end - tile.m_begin == 1) {
      const int64_t m = tile.m_begin;
      alignas(32) float total[kNibblePanel] = {};
      int4_group_row_hot(tile.xq + m * tile.xq_stride, w, {panel, scales, offsets, groups},
                         tile.w_group / kNibbleBlock, total);
      for (int64_t j = 0; j < kNibblePanel; j += kColumns) {
        write_scaled(tile, m, 1, n + j, total + j);
      }
      continue;
    }
    expand_panel(w, blocks, Element::kInt4, panel);
    for (int64_t m = tile.m_begin; m < tile.m_end; m += kRows) {
      const int64_t rows = tile.m_end - m < kRows ? tile.m_end - m : kRows;
      for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kColumns) {
        const GroupOperands in = {panel + expanded_place(j, blocks), scales + j,
                                  offsets + (m - tile.m_begin) * groups, groups};
        multiply_groups(tile, in, m, rows, n + j);
      }
    }
  }
}

}  // namespace mezzotint::avx2
