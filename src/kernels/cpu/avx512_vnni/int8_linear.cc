// kInt8Vnni weights by vpdpbusd. The weights (unsigned) sit in registers, the activations (signed)
// come as {1to16} broadcasts from memory, which cost nothing beside the dot product.
//
// A tile of 14 rows x 32 columns: 28 accumulators, 2 registers of weights, 2 spare. One step of
// 4 k is 28 dot products, 28 cycles on one 512-bit pipe, and 128 + 56 bytes read: far below what
// the second-level cache delivers (32 bytes per cycle on Zen 4). Each accumulator is used once per
// 28 cycles, so that the latency of 5 cycles does not show.

#include "kernels/cpu/avx512_vnni/panel.h"
#include "kernels/int8_rows.h"
#include "kernels/int8_vnni_layout.h"
#include "numerics/int8.h"

namespace mezzotint::avx512_vnni {
namespace {

constexpr int kMaxRows = 14;
constexpr int kVectors = 2;  // a panel of 32 columns
constexpr int64_t kStepBytes = kVnniPanel * kVnniStep;
constexpr int kUnroll = 4;           // steps per turn of the loop
constexpr int64_t kPrefetch = 1024;  // bytes ahead in the weights: 8 steps, 224 cycles

// Fewer accumulators than the latency asks for (8) when there are few rows: these take the steps of
// k by turns in several sets, added at the end.
constexpr int phases_for(int rows) { return rows == 1 ? 4 : (rows <= 3 ? 2 : 1); }

struct PanelArgs {
  const int8_t* x;  // row 0 of the group
  int64_t x_stride;
  const uint8_t* w;  // panel
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

// numerics/int8.h, int8_output, for the rows of a tile.
template <int kRows>
[[gnu::always_inline]] inline void write_rows(const PanelArgs& args,
                                              const __m512i (&acc)[kRows][kVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = column_mask(args.columns, v);
    const __m512 w_scale = _mm512_maskz_loadu_ps(mask, args.w_scale + v * kLanes);
    const __m512 bias = args.bias == nullptr ? _mm512_setzero_ps()
                                             : _mm512_maskz_loadu_ps(mask, args.bias + v * kLanes);
    char* y = static_cast<char*>(args.y) + v * kLanes * float_size(args.y_type);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[i][v]), w_scale),
                                          _mm512_set1_ps(args.x_scale[i]));
      store16(y + i * args.y_row_bytes, args.y_type, mask, _mm512_add_ps(scaled, bias));
    }
  }
}

// Rows by threes from five base pointers: p, p + stride and p + 2 stride are addressing modes, so
// that 14 rows need 6 general registers instead of 14.
constexpr int kRowsPerBase = 3;
constexpr int kBases = (kMaxRows + kRowsPerBase - 1) / kRowsPerBase;

template <int kRows>
[[gnu::always_inline]] inline void dot_step(const int8_t* const (&base)[kBases], int64_t stride,
                                            int64_t k, const uint8_t* w,
                                            __m512i (&acc)[kRows][kVectors]) {
  const __m512i w0 = _mm512_load_si512(w);
  const __m512i w1 = _mm512_load_si512(w + kStepBytes / kVectors);
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    const __m512i x = broadcast_int(base[i / kRowsPerBase] + i % kRowsPerBase * stride + k);
    acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], w0, x);
    acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], w1, x);
  }
}

// Integer biases of vector v of the columns; zeros without any.
[[gnu::always_inline]] inline __m512i acc_start(const PanelArgs& args, int v) {
  return args.acc_bias == nullptr
             ? _mm512_setzero_si512()
             : _mm512_maskz_loadu_epi32(column_mask(args.columns, v), args.acc_bias + v * kLanes);
}

template <int kRows>
void int8_panel_hot(const PanelArgs& args) noexcept {
  constexpr int kPhases = phases_for(kRows);
  __m512i acc[kPhases][kRows][kVectors];
#pragma GCC unroll 4
  for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const int32_t start = p == 0 ? -kVnniOffset * args.x_sum[i] : 0;
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
  const uint8_t* w = args.w;
  int64_t step = 0;
  for (; step + kUnroll <= args.steps; step += kUnroll) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      _mm_prefetch(w + u * kStepBytes + kPrefetch, _MM_HINT_T0);
      _mm_prefetch(w + u * kStepBytes + kPrefetch + 64, _MM_HINT_T0);
      dot_step<kRows>(base, stride, u * kVnniStep, w + u * kStepBytes, acc[u % kPhases]);
    }
    w += kUnroll * kStepBytes;
#pragma GCC unroll 5
    for (int b = 0; b < kBases; ++b) base[b] += kUnroll * kVnniStep;
  }
  for (; step < args.steps; ++step) {
    dot_step<kRows>(base, stride, 0, w, acc[0]);
    w += kStepBytes;
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
constexpr PanelFn kPanelFns[kMaxRows + 1] = {nullptr,
                                             int8_panel_hot<1>,
                                             int8_panel_hot<2>,
                                             int8_panel_hot<3>,
                                             int8_panel_hot<4>,
                                             int8_panel_hot<5>,
                                             int8_panel_hot<6>,
                                             int8_panel_hot<7>,
                                             int8_panel_hot<8>,
                                             int8_panel_hot<9>,
                                             int8_panel_hot<10>,
                                             int8_panel_hot<11>,
                                             int8_panel_hot<12>,
                                             int8_panel_hot<13>,
                                             int8_panel_hot<14>};

}  // namespace

// One panel at a time against all rows of the tile: the panel (32 k bytes) and the rows stay in the
// second-level cache. Rows split into equal groups: 16 is 8 + 8, not 14 + 2.
void int8_vnni_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  const int64_t groups = (rows + kMaxRows - 1) / kMaxRows;
  const int64_t y_bytes = float_size(tile.y_type);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kVnniPanel) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t m = tile.m_begin + rows * g / groups;
      const int64_t m_end = tile.m_begin + rows * (g + 1) / groups;
      const int64_t columns = tile.n_end - n;
      kPanelFns[m_end - m]({
          .x = tile.xq + m * tile.xq_stride,
          .x_stride = tile.xq_stride,
          .w = reinterpret_cast<const uint8_t*>(tile.w) + vnni_offset(n, 0, tile.k),
          .steps = vnni_steps(tile.k),
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
}

}  // namespace mezzotint::avx512_vnni
