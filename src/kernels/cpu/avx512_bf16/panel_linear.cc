// Linears over panels by vdpbf16ps: pairs of k of 16 outputs in a register of weights, pairs of x
// broadcast from memory. x and w are bf16 exactly (integers up to 256, e4m3 times a power of two),
// sums are f32.
//
// A tile of 14 rows x 32 columns: 28 accumulators, 2 registers of weights, 2 spare. One pair of k
// is 28 dot products, 28 cycles on the one 512-bit pipe, and each accumulator is used once in these
// 28 cycles, so that the latency of 6 does not show. A panel's weights become bf16 once per 224
// rows: int8 takes 10 instructions of 16 lanes per pair of k beside 448 dot products.

#include "kernels/cpu/avx512_bf16/panel_weights.inl"
#include "kernels/float_panel_rows.h"
#include "kernels/panel_tiles.inl"

namespace mezzotint::avx512_bf16 {
namespace {

constexpr int kMaxTileRows = 14;
constexpr int kUnroll = 4;  // pairs of k per turn of the loop: one step of 8 k
constexpr int64_t kStride = kBf16BlockK + kPanelPadBytes / 2;
constexpr int64_t kPairValues = kPanelColumns * 2;

template <int kRows>
[[gnu::always_inline]] inline void dot_step(const uint16_t* x, const uint16_t* w,
                                            __m512 (&acc)[kRows][kVectors]) {
  const __m512i w0 = _mm512_load_si512(w);
  const __m512i w1 = _mm512_load_si512(w + kPairValues / kVectors);
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    dot(acc[r][0], w0, x + r * kStride);
    dot(acc[r][1], w1, x + r * kStride);
  }
}

// The sums of a run of k: replaced or added to what waits, times the run's scale when it has one.
template <int kRows>
[[gnu::always_inline]] inline void finish_run(const float* run_scale, Sums sums_are, float* sums,
                                              const __m512 (&acc)[kRows][kVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const __m512 scale =
        run_scale == nullptr ? _mm512_set1_ps(1.0f) : _mm512_load_ps(run_scale + v * kLanes);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      float* out = sums + r * kPanelColumns + v * kLanes;
      const __m512 before = sums_are == Sums::kFirst ? _mm512_setzero_ps() : _mm512_load_ps(out);
      _mm512_store_ps(out, _mm512_fmadd_ps(acc[r][v], scale, before));
    }
  }
}

template <int kRows>
void bf16_panel_hot(const PanelProduct<uint16_t>& product) {
  const uint16_t* x = product.x;
  const uint16_t* w = product.w;
  const float* run_scale = product.run_scale;
  Sums sums_are = product.sums_are;
  for (int64_t k = 0; k < product.depth; k += product.run) {
    __m512 acc[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < product.run; i += 2 * kUnroll) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnroll; ++u) {
        _mm_prefetch(w + u * kPairValues + 512, _MM_HINT_T0);
        _mm_prefetch(w + u * kPairValues + 512 + 32, _MM_HINT_T0);
        dot_step<kRows>(x + 2 * u, w + u * kPairValues, acc);
      }
      x += 2 * kUnroll;
      w += kUnroll * kPairValues;
    }
    finish_run<kRows>(run_scale, sums_are, product.sums, acc);
    if (run_scale != nullptr) run_scale += kPanelColumns;
    sums_are = Sums::kContinued;
  }
}

template <int kRows>
void multiply_bf16(int64_t rows, const PanelProduct<uint16_t>& product) {
  if (rows == kRows) return bf16_panel_hot<kRows>(product);
  if constexpr (kRows > 1) multiply_bf16<kRows - 1>(rows, product);
}

template <typename Weights>
struct Bf16Math : Weights {
  using Value = uint16_t;
  static constexpr int64_t kBlockK = kBf16BlockK;
  static constexpr int64_t kMaxRows = kMaxTileRows;
  static constexpr int64_t kMaxRuns = kBf16BlockK / 32;  // declines_panel_bf16_groups

  static const float* output_scale(const LinearTile& tile) {
    return tile.w_group == 0 ? tile.w_scale : nullptr;
  }
  // Integers meet x without their scales; groups end where runs do.
  static int64_t run_scales(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                            float* out) {
    if (tile.w_group == 0) return 0;
    const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
    const int64_t groups = tile.k / tile.w_group;
    const int64_t run = tile.w_group < kBf16BlockK ? tile.w_group : panel_k(depth);
    for (int64_t at = 0; at < depth; at += run) {
      column_values(
          tile.w_scale + n * groups, groups, (k + at) / tile.w_group, columns, 0.0f,
          [](float scale) __attribute__((always_inline)) { return scale; }, out);
      out += kPanelColumns;
    }
    return run;
  }
  static void multiply(int64_t rows, const PanelProduct<uint16_t>& product) {
    multiply_bf16<kMaxTileRows>(rows, product);
  }
};

}  // namespace

void int8_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<Bf16Math<Int8Weights>>(tile);
}
void e4m3_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<Bf16Math<E4M3Weights>>(tile);
}
void int4_words_linear(const LinearTile& tile) noexcept {
  run_panel_tile<Bf16Math<Int4Weights>>(tile);
}
void bf16_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<Bf16Math<Bf16Weights>>(tile);
}

}  // namespace mezzotint::avx512_bf16
