// Integer codes times int8 or int4 codes by vpdpbusd: kInt8Vnni panels as they are, kNibblePanels
// expanded in registers, which costs nothing beside 24 dot products on other pipes. The weights
// (unsigned) sit in registers, the activations (signed) come as {1to16} broadcasts from memory,
// which cost nothing beside the dot product.
//
// A tile of 14 rows x 32 columns: 28 accumulators, 2 registers of weights, 2 spare. One step of
// 4 k is 28 dot products, 28 cycles on one 512-bit pipe, and 128 + 56 bytes read: far below what
// the second-level cache delivers (32 bytes per cycle on Zen 4). Each accumulator is used once per
// 28 cycles, so that the latency of 5 cycles does not show.

#include "kernels/cpu/avx512_vnni/dot_panels.h"
#include "kernels/int8_rows.h"
#include "kernels/panel_rows.h"
#include "numerics/int8.h"

namespace mezzotint::avx512_vnni {
namespace {

struct PanelArgs {
  const int8_t* x;  // row 0 of the group
  int64_t x_stride;
  const std::byte* w;     // panel
  const std::byte* next;  // what to ask memory for: weights read later
  int64_t steps;
  const int32_t* x_sum;
  const float* x_scale;
  const float* w_scale;     // of the panel
  const int32_t* acc_bias;  // of the panel, or null
  const float* bias;        // of the panel, or null
  void* y;                  // row 0, column 0 of the panel
  int64_t y_row_bytes;
  FloatType y_type;
  int64_t columns;  // 1..32 that exist
};

// numerics/int8.h, int8_output.
[[gnu::always_inline]] inline __m512 output_of(__m512i sums, __m512 w_scale, __m512 x_scale,
                                               __m512 bias) {
  const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), w_scale), x_scale);
  return _mm512_add_ps(scaled, bias);
}

// Whole panels as bf16, two registers at once.
template <int kRows>
[[gnu::always_inline]] inline void write_bf16_rows(const PanelArgs& args,
                                                   const __m512i (&acc)[kRows][kVectors]) {
  alignas(64) static constexpr float kNoBias[kVnniPanel] = {};
  const float* const w_scale = args.w_scale;
  const float* const bias = args.bias == nullptr ? kNoBias : args.bias;
  char* y = static_cast<char*>(args.y);
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    const __m512 x_scale = _mm512_set1_ps(args.x_scale[i]);
    const auto half = [&](int v) __attribute__((always_inline)) {
      return output_of(acc[i][v], _mm512_loadu_ps(w_scale + v * kLanes), x_scale,
                       _mm512_loadu_ps(bias + v * kLanes));
    };
    store32_bf16(y, half(0), half(1));
    y += args.y_row_bytes;
  }
}

// The rows of a tile.
template <int kRows>
[[gnu::always_inline]] inline void write_rows(const PanelArgs& args,
                                              const __m512i (&acc)[kRows][kVectors]) {
  if (args.columns == kVnniPanel && args.y_type == FloatType::kBF16) {
    return write_bf16_rows<kRows>(args, acc);
  }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = column_mask(args.columns, v);
    const __m512 w_scale = _mm512_maskz_loadu_ps(mask, args.w_scale + v * kLanes);
    const __m512 bias = args.bias == nullptr ? _mm512_setzero_ps()
                                             : _mm512_maskz_loadu_ps(mask, args.bias + v * kLanes);
    char* y = static_cast<char*>(args.y) + v * kLanes * float_size(args.y_type);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      store16(y + i * args.y_row_bytes, args.y_type, mask,
              output_of(acc[i][v], w_scale, _mm512_set1_ps(args.x_scale[i]), bias));
    }
  }
}

// Integer biases of vector v of the columns; zeros without any.
[[gnu::always_inline]] inline __m512i acc_start(const PanelArgs& args, int v) {
  return args.acc_bias == nullptr
             ? _mm512_setzero_si512()
             : _mm512_maskz_loadu_epi32(column_mask(args.columns, v), args.acc_bias + v * kLanes);
}

template <typename Panel, int kRows>
void int8_panel_hot(const PanelArgs& args) noexcept {
  constexpr int kPhases = phases_for(kRows);
  __m512i acc[kPhases][kRows][kVectors];
#pragma GCC unroll 4
  for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const int32_t start = p == 0 ? -Panel::kOffset * args.x_sum[i] : 0;
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        acc[p][i][v] = _mm512_set1_epi32(start);
        if (p == 0) acc[p][i][v] = _mm512_add_epi32(acc[p][i][v], acc_start(args, v));
      }
    }
  }
  const int64_t stride = args.x_stride;
  const int8_t* base[kBases];
#pragma GCC unroll 5
  for (int b = 0; b < kBases; ++b) base[b] = args.x + b * kRowsPerBase * stride;
  const std::byte* w = args.w;
  const std::byte* next = args.next;
  int64_t step = 0;
  for (; step + kUnroll <= args.steps; step += kUnroll) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      const std::byte* step_w = w + u * Panel::kStepBytes;
      for (int64_t at = 0; at < Panel::kStepBytes; at += kLine) {
        _mm_prefetch(step_w + kPrefetch + at, _MM_HINT_T0);
      }
      dot_step<Panel>(base, stride, u * kVnniStep, step_w, acc[u % kPhases]);
    }
    for (int line = 0; line < lines_ahead<Panel>(kRows); ++line) {
      _mm_prefetch(next + line * kLine, _MM_HINT_T1);
    }
    next += lines_ahead<Panel>(kRows) * kLine;
    w += kUnroll * Panel::kStepBytes;
#pragma GCC unroll 5
    for (int b = 0; b < kBases; ++b) base[b] += kUnroll * kVnniStep;
  }
  for (; step < args.steps; ++step) {
    dot_step<Panel>(base, stride, 0, w, acc[0]);
    w += Panel::kStepBytes;
#pragma GCC unroll 5
    for (int b = 0; b < kBases; ++b) base[b] += kVnniStep;
  }
#pragma GCC unroll 4
  for (int p = 1; p < kPhases; ++p) {
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      acc[0][i][0] = _mm512_add_epi32(acc[0][i][0], acc[p][i][0]);
      acc[0][i][1] = _mm512_add_epi32(acc[0][i][1], acc[p][i][1]);
    }
  }
  write_rows<kRows>(args, acc[0]);
}

using PanelFn = void (*)(const PanelArgs&) noexcept;

template <typename Panel, int kRows>
constexpr PanelFn panel_fn() {
  if constexpr (kRows <= Panel::kMaxRows) return int8_panel_hot<Panel, kRows>;
  return nullptr;
}

template <typename Panel>
constexpr PanelFn kPanelFns[kMaxRows + 1] = {nullptr,
                                             panel_fn<Panel, 1>(),
                                             panel_fn<Panel, 2>(),
                                             panel_fn<Panel, 3>(),
                                             panel_fn<Panel, 4>(),
                                             panel_fn<Panel, 5>(),
                                             panel_fn<Panel, 6>(),
                                             panel_fn<Panel, 7>(),
                                             panel_fn<Panel, 8>(),
                                             panel_fn<Panel, 9>(),
                                             panel_fn<Panel, 10>(),
                                             panel_fn<Panel, 11>(),
                                             panel_fn<Panel, 12>(),
                                             panel_fn<Panel, 13>(),
                                             panel_fn<Panel, 14>()};

// One panel against all rows of the tile: the panel and the rows stay in the second-level cache.
template <typename Panel>
void multiply_panel(const LinearTile& tile, int64_t n, int64_t w_offset, int64_t panel_bytes) {
  const Groups groups = {tile.m_begin, tile.m_end - tile.m_begin, Panel::kMaxRows};
  const int64_t y_bytes = float_size(tile.y_type);
  const int64_t columns = tile.n_end - n;
  const int64_t steps = vnni_steps(tile.k);
  for (int64_t g = 0; g < groups.count(); ++g) {
    const int64_t m = groups.begin(g), rows = groups.begin(g + 1) - m;
    kPanelFns<Panel>[rows]({
        .x = tile.xq + m * tile.xq_stride,
        .x_stride = tile.xq_stride,
        .w = tile.w + w_offset,
        .next = ask_from<Panel>(tile.w + w_offset, panel_bytes, groups, g, steps),
        .steps = steps,
        .x_sum = tile.x_sum + m,
        .x_scale = tile.x_scale + m,
        .w_scale = tile.w_scale + n,
        .acc_bias = tile.acc_bias == nullptr ? nullptr : tile.acc_bias + n,
        .bias = tile.bias == nullptr ? nullptr : tile.bias + n,
        .y = static_cast<char*>(tile.y) + (m * tile.y_stride + n) * y_bytes,
        .y_row_bytes = tile.y_stride * y_bytes,
        .y_type = tile.y_type,
        .columns = columns < kVnniPanel ? columns : kVnniPanel,
    });
  }
}

}  // namespace

void int8_vnni_linear(const LinearTile& tile) noexcept {
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kVnniPanel) {
    multiply_panel<Int8Panel>(tile, n, vnni_offset(n, 0, tile.k), vnni_panel_bytes(tile.k));
  }
}

void int4_panels_linear(const LinearTile& tile) noexcept {
  static_assert(kNibblePanel == kVnniPanel && kNibbleStep == kVnniStep);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kNibblePanel) {
    multiply_panel<Int4Panel>(tile, n, nibble_offset(n, 0, tile.k), nibble_panel_bytes(tile.k));
  }
}

}  // namespace mezzotint::avx512_vnni
