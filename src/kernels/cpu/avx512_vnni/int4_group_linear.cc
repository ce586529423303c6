// int8 codes of x times int4 codes in groups of k, one scale each: the sums of a group are exact
// integers, and meet their scale as floats. The panels and the dot products are those of
// int8_linear.cc.
//
// Beside the 24 dot products of a step, a group of 64 k costs a conversion, an FMA and a store for
// each of its 24 sums: 72 instructions after 384.

#include "kernels/cpu/avx512/transpose.h"
#include "kernels/cpu/avx512_vnni/dot_panels.h"
#include "kernels/panel_rows.h"

namespace mezzotint::avx512_vnni {
namespace {

constexpr int64_t kWordBytes = 4;

struct GroupArgs {
  const int8_t* x;  // row 0
  int64_t x_stride;
  const std::byte* w;     // panel
  const std::byte* next;  // what to ask memory for: weights read later
  int64_t groups, group_steps;
  const int32_t* starts;  // [rows][groups]: -8 * the sum of the codes of x
  const float* scales;    // [groups][32]
  float* sums;            // [rows][32]
};

// sums = x w. An accumulator has phases where there are few rows, as in int8_panel_hot().
template <int kRows>
[[gnu::noinline]] void int4_groups_hot(const GroupArgs& args) noexcept {
  constexpr int kPhases = phases_for(kRows);
  const int64_t stride = args.x_stride;
  const int8_t* base[kBases];
#pragma GCC unroll 5
  for (int b = 0; b < kBases; ++b) base[b] = args.x + b * kRowsPerBase * stride;
  const std::byte* w = args.w;
  const std::byte* next = args.next;
  const float* scales = args.scales;
  const int32_t* starts = args.starts;
  __builtin_memset(args.sums, 0, sizeof(float) * kRows * kNibblePanel);
  for (int64_t g = 0; g < args.groups; ++g) {
    __m512i acc[kPhases][kRows][kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) {
        const int32_t start = p == 0 ? starts[i * args.groups] : 0;
        acc[p][i][0] = acc[p][i][1] = _mm512_set1_epi32(start);
      }
    }
    for (int64_t step = 0; step < args.group_steps; step += kUnroll) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnroll; ++u) {
        const std::byte* step_w = w + u * kNibbleStepBytes;
        _mm_prefetch(step_w + kPrefetch, _MM_HINT_T0);
        dot_step<Int4Panel>(base, stride, u * kNibbleStep, step_w, acc[u % kPhases]);
      }
      for (int line = 0; line < lines_ahead<Int4Panel>(kRows); ++line) {
        _mm_prefetch(next + line * kLine, _MM_HINT_T1);
      }
      next += lines_ahead<Int4Panel>(kRows) * kLine;
      w += kUnroll * kNibbleStepBytes;
#pragma GCC unroll 5
      for (int b = 0; b < kBases; ++b) base[b] += kUnroll * kNibbleStep;
    }
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __m512 scale = _mm512_load_ps(scales + v * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int p = 1; p < kPhases; ++p) {
          acc[0][i][v] = _mm512_add_epi32(acc[0][i][v], acc[p][i][v]);
        }
        float* sum = args.sums + i * kNibblePanel + v * kLanes;
        const __m512 dots = _mm512_cvtepi32_ps(acc[0][i][v]);
        _mm512_store_ps(sum, _mm512_fmadd_ps(dots, scale, _mm512_load_ps(sum)));
      }
    }
    scales += kNibblePanel;
    ++starts;
  }
}

using GroupsFn = void (*)(const GroupArgs&) noexcept;
constexpr GroupsFn kGroupsFns[Int4Panel::kMaxRows + 1] = {nullptr,
                                                          int4_groups_hot<1>,
                                                          int4_groups_hot<2>,
                                                          int4_groups_hot<3>,
                                                          int4_groups_hot<4>,
                                                          int4_groups_hot<5>,
                                                          int4_groups_hot<6>,
                                                          int4_groups_hot<7>,
                                                          int4_groups_hot<8>,
                                                          int4_groups_hot<9>,
                                                          int4_groups_hot<10>,
                                                          int4_groups_hot<11>,
                                                          int4_groups_hot<12>};

// --- operands ------------------------------------------------------------------------------------

// What the sums of a row of x start with, group by group.
void group_starts(const int8_t* x, int64_t group, int64_t groups, int32_t* starts) {
  const __m256i ones = _mm256_set1_epi8(1);
  for (int64_t g = 0; g < groups; ++g, x += group) {
    __m256i sums = _mm256_setzero_si256();
    for (int64_t k = 0; k < group; k += kNibbleBlock) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k));
      sums = _mm256_dpbusd_epi32(sums, ones, codes);
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_hadd_epi32(four, four);
    starts[g] = -Int4Panel::kOffset * (_mm_cvtsi128_si32(four) + _mm_extract_epi32(four, 1));
  }
}

// The scales of the panel at n, [groups][32]; 0 where there is no output. Those of the next panel,
// which follow, are asked for.
void panel_scales(const LinearTile& tile, int64_t n, int64_t groups, float* out) {
  const float* scale = tile.w_scale + n * groups;
  for (int64_t first = 0; first < groups; first += kLanes) {
    const int64_t rest = groups - first < kLanes ? groups - first : kLanes;
    const auto mask = static_cast<__mmask16>((1 << rest) - 1);
    for (int64_t half = 0; half < kNibblePanel; half += kLanes) {
      __m512 v[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const float* row = scale + (half + i) * groups + first;
        v[i] = n + half + i < tile.n ? _mm512_maskz_loadu_ps(mask, row) : _mm512_setzero_ps();
        _mm_prefetch(row + kNibblePanel * groups, _MM_HINT_T1);
      }
      avx512::transpose16(v);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        if (i < rest) _mm512_store_ps(out + (first + i) * kNibblePanel + half, v[i]);
      }
    }
  }
}

void write_rows(const LinearTile& tile, int64_t m, int64_t rows, int64_t n, const float* sums) {
  const int64_t bytes = float_size(tile.y_type);
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = column_mask(tile.n_end - n, v);
    const int64_t column = n + v * kLanes;
    const __m512 bias = tile.bias == nullptr ? _mm512_setzero_ps()
                                             : _mm512_maskz_loadu_ps(mask, tile.bias + column);
    for (int64_t i = 0; i < rows; ++i) {
      const __m512 sum = _mm512_load_ps(sums + i * kNibblePanel + v * kLanes);
      const __m512 y = _mm512_fmadd_ps(sum, _mm512_set1_ps(tile.x_scale[m + i]), bias);
      store16(static_cast<char*>(tile.y) + ((m + i) * tile.y_stride + column) * bytes, tile.y_type,
              mask, y);
    }
  }
}

}  // namespace

int64_t int4_groups_scratch_bytes(int64_t k) {
  const int64_t groups = k / kInt4ShortestGroup;
  return (groups * kNibblePanel + kInt4TileM * groups) * kWordBytes;
}

void int4_groups_linear(const LinearTile& tile) noexcept {
  const int64_t groups = tile.k / tile.w_group;
  auto* scales = reinterpret_cast<float*>(tile.scratch);
  auto* starts = reinterpret_cast<int32_t*>(scales + groups * kNibblePanel);
  const Groups rows = {tile.m_begin, tile.m_end - tile.m_begin, Int4Panel::kMaxRows};
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    group_starts(tile.xq + m * tile.xq_stride, tile.w_group, groups,
                 starts + (m - tile.m_begin) * groups);
  }
  const int64_t panel_bytes = nibble_panel_bytes(tile.k);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    panel_scales(tile, n, groups, scales);
    const std::byte* w = tile.w + nibble_offset(n, 0, tile.k);
    for (int64_t g = 0; g < rows.count(); ++g) {
      alignas(64) float sums[Int4Panel::kMaxRows * kNibblePanel];
      const int64_t m = rows.begin(g), count = rows.begin(g + 1) - m;
      kGroupsFns[count]({.x = tile.xq + m * tile.xq_stride,
                         .x_stride = tile.xq_stride,
                         .w = w,
                         .next = ask_from<Int4Panel>(w, panel_bytes, rows, g, vnni_steps(tile.k)),
                         .groups = groups,
                         .group_steps = tile.w_group / kNibbleStep,
                         .starts = starts + (m - tile.m_begin) * groups,
                         .scales = scales,
                         .sums = sums});
      write_rows(tile, m, count, n, sums);
    }
  }
}

}  // namespace mezzotint::avx512_vnni
