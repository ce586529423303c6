// kNibblePanels weights for processors without VNNI: codes of x times int4, with one scale per
// output or per group of k.

#include "kernels/cpu/avx2/nibble_blocks.inl"
#include "kernels/cpu/avx2/transpose.h"

namespace mezzotint::avx2 {
namespace {

// 16 of the sums[i] += over `blocks` blocks.
template <int rows>
[[gnu::noinline]] void int4_blocks_hot(const int8_t* x, int64_t x_stride, const uint8_t* w,
                                       int64_t blocks, Ahead ahead, int32_t* sums) noexcept {
  for (int64_t b = 0; b < blocks; ++b) {
    ahead.ask();
    __m256i dots[rows][kVectors];
    multiply_block<rows>(x, x_stride, w, dots);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        auto* place = reinterpret_cast<__m256i*>(sums + i * kTileColumns + v * kLanes);
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

using Int4Fn = void (*)(const int8_t*, int64_t, const uint8_t*, int64_t, Ahead, int32_t*) noexcept;
constexpr Int4Fn kInt4Fns[kRows + 1] = {nullptr, int4_blocks_hot<1>, int4_blocks_hot<2>,
                                        int4_blocks_hot<3>, int4_blocks_hot<4>};

// y of row m and the columns from n on.
[[gnu::always_inline]] inline void write_int4(const LinearTile& tile, int64_t m, int64_t n,
                                              const Int8Columns& columns, const int32_t* sums) {
  const __m256i offset = _mm256_set1_epi32(kInt4Offset * tile.x_sum[m]);
  const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums));
  write_int8(tile, m, n, columns, _mm256_sub_epi32(sum, offset));
}

void multiply_row(const LinearTile& tile) {
  const int64_t m = tile.m_begin;
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    alignas(32) int32_t sums[kNibblePanel];
    int4_row_hot(tile.xq + m * tile.xq_stride, tile.w + nibble_offset(n, 0, tile.k),
                 nibble_blocks(tile.k), sums);
    for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kLanes) {
      write_int4(tile, m, n + j, int8_columns(tile, n + j), sums + j);
    }
  }
}

// Rows of codes of x from one k on.
struct CodeRows {
  const int8_t* row;  // the tile's first
  int64_t stride;
};
// In place, or of few rows copied to `x` with room between them: a stride in a file's k, a multiple
// of 1024 as often as not, puts them all in the same sets of the first-level cache.
CodeRows code_rows(const LinearTile& tile, int64_t k, int64_t blocks, int8_t* x) {
  constexpr int64_t kStride = kFewRowsDepth + kLine;
  const int64_t rows = tile.m_end - tile.m_begin, depth = blocks * kNibbleBlock;
  const int8_t* from = tile.xq + tile.m_begin * tile.xq_stride + k;
  if (rows > kFewRows || depth > kFewRowsDepth) return {from, tile.xq_stride};
  for (int64_t m = 0; m < rows; ++m) {
    __builtin_memcpy(x + m * kStride, from + m * tile.xq_stride, static_cast<size_t>(depth));
  }
  return {x, kStride};
}
constexpr int64_t kCodeRowsBytes = kFewRows * (kFewRowsDepth + kLine);

constexpr int64_t kSumsBytes = kInt4TileM * kTileColumns * kWordBytes;

struct Int4Form {
  static constexpr Element kElement = Element::kInt4;
  const LinearTile& tile;
  int32_t* sums;   // [rows][kTileColumns]
  int8_t* copied;  // room for kCodeRowsBytes
  CodeRows x = {};
  int64_t blocks = 0;

  void take_rows(int64_t k, int64_t count) {
    blocks = count;
    x = code_rows(tile, k, count, copied);
  }
  void take_panel(int64_t, int64_t, int64_t) {}
  void multiply(int64_t m, int64_t rows, int64_t n, const uint8_t* w, Ahead ahead) {
    kInt4Fns[rows](x.row + m * x.stride, x.stride, w, blocks, ahead, sums + m * kTileColumns + n);
  }
};

}  // namespace

int64_t int4_panels_scratch_bytes(int64_t) {
  return kSumsBytes + kTileDepth * kNibblePanel + kCodeRowsBytes;
}

void int4_panels_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  if (rows == 1) return multiply_row(tile);
  auto* sums = reinterpret_cast<int32_t*>(tile.scratch);
  auto* panel = reinterpret_cast<uint8_t*>(tile.scratch + kSumsBytes);
  __builtin_memset(sums, 0, static_cast<size_t>(rows * kTileColumns * kWordBytes));
  Int4Form form = {tile, sums, reinterpret_cast<int8_t*>(panel + kTileDepth * kNibblePanel)};
  run_blocks(tile, tile_depth(rows), panel, form);
  Int8Columns columns[kPanelVectors];
  const auto begin = [&](int64_t n) __attribute__((always_inline)) {
    for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kLanes) {
      columns[j / kLanes] = int8_columns(tile, n + j);
    }
  };
  write_panels(tile, begin, [&](int64_t m, int64_t n, int64_t v) __attribute__((always_inline)) {
    write_int4(tile, m, n, columns[v], sums + (m - tile.m_begin) * kTileColumns + n - tile.n_begin);
  });
}

// --- int4 in groups: their integer sums, then floats ---------------------------------------------

namespace {

// k of a block: whole groups.
int64_t group_depth(int64_t group, int64_t rows) {
  const int64_t depth = tile_depth(rows);
  return group < depth ? depth / group * group : group;
}

// -8 * the sum of the codes of x, group by group: against what the offset of the weights adds.
void group_starts(const int8_t* x, int64_t group, int64_t groups, int32_t* starts) {
  for (int64_t g = 0; g < groups; ++g, x += group) {
    int32_t sum = 0;
    for (int64_t k = 0; k < group; ++k) sum += x[k];
    starts[g] = -kInt4Offset * sum;
  }
}

// What a tile of rows and 16 outputs reads of some groups.
struct GroupOperands {
  const int8_t* x;
  int64_t x_stride;
  const uint8_t* w;       // expanded panel, from its 16 outputs on
  const float* scales;    // [groups][32], likewise
  const int32_t* starts;  // [rows][starts_stride]
  int64_t starts_stride;
  int64_t blocks;  // of a group
  int64_t groups;
};

// 16 of the totals[i] += over groups; parts:[rows][16] are sums of a group's blocks.
template <int rows>
[[gnu::noinline]] void int4_groups_hot(const GroupOperands& in, Ahead ahead, int32_t* parts,
                                       float* totals) noexcept {
  const int8_t* x = in.x;
  const uint8_t* w = in.w;
  const int64_t others = in.blocks - 1;  // whose sums wait in parts for the last block
  const auto next_block = [&](__m256i(&dots)[rows][kVectors]) __attribute__((always_inline)) {
    ahead.ask();
    multiply_block<rows>(x, in.x_stride, w, dots);
    x += kNibbleBlock;
    w += kSteps * kStepBytes;
  };
  const auto part = [&](int i, int v) __attribute__((always_inline)) {
    return reinterpret_cast<__m256i*>(parts + i * kColumns + v * kLanes);
  };
  for (int64_t g = 0; g < in.groups; ++g) {
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const __m256i start = broadcast_int(in.starts + i * in.starts_stride + g);
      _mm256_store_si256(part(i, 0), start);
      _mm256_store_si256(part(i, 1), start);
    }
    for (int64_t b = 0; b < others; ++b) {
      __m256i dots[rows][kVectors];
      next_block(dots);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          const __m256i sum = _mm256_add_epi32(_mm256_load_si256(part(i, v)), dots[i][v]);
          _mm256_store_si256(part(i, v), sum);
        }
      }
    }
    __m256i dots[rows][kVectors];
    next_block(dots);
    const __m256 scales[kVectors] = {_mm256_load_ps(in.scales + g * kNibblePanel),
                                     _mm256_load_ps(in.scales + g * kNibblePanel + kLanes)};
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const __m256i sum = _mm256_add_epi32(_mm256_load_si256(part(i, v)), dots[i][v]);
        float* total = totals + i * kTileColumns + v * kLanes;
        _mm256_store_ps(total,
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scales[v], _mm256_load_ps(total)));
      }
    }
  }
}

using GroupsFn = void (*)(const GroupOperands&, Ahead, int32_t*, float*) noexcept;
constexpr GroupsFn kGroupsFns[kRows + 1] = {nullptr, int4_groups_hot<1>, int4_groups_hot<2>,
                                            int4_groups_hot<3>, int4_groups_hot<4>};

struct GroupForm {
  static constexpr Element kElement = Element::kInt4;
  const LinearTile& tile;
  float* totals;          // [rows][kTileColumns]
  const int32_t* starts;  // [rows][groups of k]
  float* scales;          // [groups of a block of k][32]
  int8_t* copied;         // room for kCodeRowsBytes
  CodeRows x = {};
  int64_t first = 0, count = 0;  // groups

  void take_rows(int64_t k, int64_t blocks) {
    first = k / tile.w_group;
    count = blocks * kNibbleBlock / tile.w_group;
    x = code_rows(tile, k, blocks, copied);
  }
  void take_panel(int64_t n, int64_t, int64_t) {
    const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
    const int64_t groups = tile.k / tile.w_group;
    transpose_columns(tile.w_scale + n * groups + first, groups, count, columns, scales);
  }
  void multiply(int64_t m, int64_t rows, int64_t n, const uint8_t* w, Ahead ahead) {
    const int64_t groups = tile.k / tile.w_group;
    alignas(32) int32_t parts[kRows * kColumns];
    kGroupsFns[rows]({.x = x.row + m * x.stride,
                      .x_stride = x.stride,
                      .w = w,
                      .scales = scales + n % kNibblePanel,
                      .starts = starts + m * groups + first,
                      .starts_stride = groups,
                      .blocks = tile.w_group / kNibbleBlock,
                      .groups = count},
                     ahead, parts, totals + m * kTileColumns + n);
  }
};

// One row, the 32 outputs from n on: totals of its groups in the first-level cache.
struct GroupRow {
  const float* scales;    // [groups][32]
  const int32_t* starts;  // [groups]
  int64_t groups;
};
[[gnu::noinline]] void int4_group_row_hot(const int8_t* x, const std::byte* w, const GroupRow& in,
                                          int64_t blocks, float* total) noexcept {
  const Nibbles nibbles = nibbles_of(Element::kInt4);
  for (int64_t g = 0; g < in.groups; ++g) {
    __m256i sums[kPanelVectors];
    sum_row(x, w, blocks, nibbles, sums);
    const __m256i start = broadcast_int(in.starts + g);
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m256 dots = _mm256_cvtepi32_ps(_mm256_add_epi32(sums[v], start));
      const __m256 scale = _mm256_load_ps(in.scales + g * kNibblePanel + v * kLanes);
      float* place = total + v * kLanes;
      _mm256_store_ps(place, _mm256_fmadd_ps(dots, scale, _mm256_load_ps(place)));
    }
    x += blocks * kNibbleBlock;
    w += blocks * kNibbleBlockBytes;
  }
}

// scales:[groups][32], of one panel after the other.
void multiply_groups_row(const LinearTile& tile, const int32_t* starts, float* scales) {
  const int64_t m = tile.m_begin, groups = tile.k / tile.w_group;
  const __m256 x_scale = _mm256_set1_ps(tile.x_scale[m]);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    const int64_t columns = tile.n - n < kNibblePanel ? tile.n - n : kNibblePanel;
    transpose_columns(tile.w_scale + n * groups, groups, groups, columns, scales);
    alignas(32) float total[kNibblePanel] = {};
    int4_group_row_hot(tile.xq + m * tile.xq_stride, tile.w + nibble_offset(n, 0, tile.k),
                       {scales, starts, groups}, tile.w_group / kNibbleBlock, total);
    for (int64_t j = 0; j < kNibblePanel && n + j < tile.n_end; j += kLanes) {
      const __m256 scaled = _mm256_mul_ps(_mm256_load_ps(total + j), x_scale);
      store8(tile, m, n + j, _mm256_add_ps(scaled, bias_of(tile, n + j)));
    }
  }
}

}  // namespace

int64_t int4_groups_scratch_bytes(int64_t k) {
  // A block of k is at most a group, which may be k, or kTileDepth.
  const int64_t depth = padded_depth(k < kTileDepth ? kTileDepth : k);
  return kSumsBytes + depth * kNibblePanel + kCodeRowsBytes +
         (kInt4TileM + kNibblePanel) * (k / kInt4ShortestGroup) * kWordBytes;
}

void int4_groups_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  const int64_t groups = tile.k / tile.w_group, depth = group_depth(tile.w_group, rows);
  auto* totals = reinterpret_cast<float*>(tile.scratch);
  auto* scales = reinterpret_cast<float*>(tile.scratch + kSumsBytes);
  auto* panel = reinterpret_cast<uint8_t*>(scales + groups * kNibblePanel);
  auto* starts = reinterpret_cast<int32_t*>(panel + depth * kNibblePanel);
  auto* copied = reinterpret_cast<int8_t*>(starts + kInt4TileM * groups);
  for (int64_t m = 0; m < rows; ++m) {
    group_starts(tile.xq + (tile.m_begin + m) * tile.xq_stride, tile.w_group, groups,
                 starts + m * groups);
  }
  if (rows == 1) return multiply_groups_row(tile, starts, scales);
  __builtin_memset(totals, 0, static_cast<size_t>(rows * kTileColumns * kWordBytes));
  GroupForm form = {tile, totals, starts, scales, copied};
  run_blocks(tile, depth, panel, form);
  write_floats(tile, tile.x_scale, totals);
}

}  // namespace mezzotint::avx2
