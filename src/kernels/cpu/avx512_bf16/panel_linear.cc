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

// Sums of a run in units of the next run's scale.
template <int kRows>
[[gnu::always_inline]] inline void hand_on(const float* ratio, __m512 (&acc)[kRows][kVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const __m512 of_scales = _mm512_load_ps(ratio + v * kLanes);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) acc[r][v] = _mm512_mul_ps(acc[r][v], of_scales);
  }
}

// The sums of all runs: replaced or added to what waits, times the last run's scale when it has
// one.
template <int kRows>
[[gnu::always_inline]] inline void finish_runs(const float* run_scale, Sums sums_are, float* sums,
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

// Chained runs, or one.
template <int kRows>
void bf16_panel_hot(const PanelProduct<uint16_t>& product) {
  const uint16_t* x = product.x;
  const uint16_t* w = product.w;
  const float* run_scale = product.run_scale;
  __m512 acc[kRows][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
  for (int64_t rest = product.depth;;) {
    for (int64_t i = 0; i < product.runs.k; i += 2 * kUnroll) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnroll; ++u) {
        _mm_prefetch(w + u * kPairValues + 512, _MM_HINT_T0);
        _mm_prefetch(w + u * kPairValues + 512 + 32, _MM_HINT_T0);
        dot_step<kRows>(x + 2 * u, w + u * kPairValues, acc);
      }
      x += 2 * kUnroll;
      w += kUnroll * kPairValues;
    }
    rest -= product.runs.k;
    if (rest <= 0) break;
    hand_on<kRows>(run_scale, acc);
    run_scale += kPanelColumns;
  }
  finish_runs<kRows>(run_scale, product.sums_are, product.sums, acc);
}

template <int kRows>
void multiply_bf16(int64_t rows, const PanelProduct<uint16_t>& product) {
  if (rows == kRows) return bf16_panel_hot<kRows>(product);
  if constexpr (kRows > 1) multiply_bf16<kRows - 1>(rows, product);
}

// Makes scales [count][32] the factors of chained runs, where those of every column are near enough
// to each other for sums to stay floats: within 2^8. Zeros and NaN are not. The largest codes are
// 2^7, so that x up to 2^112 / k cannot overflow.
bool chain_scales(int64_t count, float* scale) {
  constexpr float kNear = 0x1p8f, kLeast = 0x1p-100f, kMost = 0x1p100f;
  for (int v = 0; v < kVectors; ++v) {
    __m512 least = _mm512_set1_ps(kMost), most = _mm512_set1_ps(kLeast);
    for (int64_t i = 0; i < count; ++i) {
      const __m512 size = _mm512_abs_ps(_mm512_load_ps(scale + i * kPanelColumns + v * kLanes));
      least = _mm512_min_ps(size, least);
      most = _mm512_max_ps(size, most);
      // NaN would be lost by the next minimum.
      if (_mm512_cmp_ps_mask(size, _mm512_set1_ps(kLeast), _CMP_NGE_UQ) != 0) return false;
    }
    const __m512 limit = _mm512_mul_ps(least, _mm512_set1_ps(kNear));
    const __mmask16 near = _mm512_cmp_ps_mask(most, limit, _CMP_LE_OQ) &
                           _mm512_cmp_ps_mask(most, _mm512_set1_ps(kMost), _CMP_LE_OQ);
    if (near != 0xffff) return false;
  }
  for (int64_t i = 0; i + 1 < count; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      float* at = scale + i * kPanelColumns + v * kLanes;
      _mm512_store_ps(at, _mm512_div_ps(_mm512_load_ps(at), _mm512_load_ps(at + kPanelColumns)));
    }
  }
  return true;
}

// Runs that are not chained: the sums of each wait in scratch for the next.
[[gnu::noinline]] void multiply_apart(int64_t rows, PanelProduct<uint16_t> product) {
  const int64_t depth = product.depth;
  product.depth = product.runs.k;
  for (int64_t at = 0; at < depth; at += product.runs.k) {
    multiply_bf16<kMaxTileRows>(rows, product);
    product.x += product.runs.k;
    product.w += product.runs.k * kPanelColumns;
    product.run_scale += kPanelColumns;
    product.sums_are = Sums::kContinued;
  }
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
  // Integers meet x without their scales; groups end where runs do. A sum that is handed on costs a
  // product; one that waits in scratch for the next a load and a store, of which there is one in
  // two cycles: with groups of 64 that was 8 % of the time.
  static Runs run_scales(const LinearTile& tile, int64_t n, int64_t k, int64_t depth, float* out) {
    if (tile.w_group == 0) return {};
    const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
    const int64_t groups = tile.k / tile.w_group;
    const int64_t run = tile.w_group < kBf16BlockK ? tile.w_group : panel_k(depth);
    const int64_t count = (depth + run - 1) / run;
    for (int64_t i = 0; i < count; ++i) {
      column_values(
          tile.w_scale + n * groups, groups, (k + i * run) / tile.w_group, columns, 1.0f,
          [](float scale) __attribute__((always_inline)) { return scale; },
          out + i * kPanelColumns);
    }
    return {run, chain_scales(count, out)};
  }
  static void multiply(int64_t rows, const PanelProduct<uint16_t>& product) {
    if (product.runs.chained) return multiply_bf16<kMaxTileRows>(rows, product);
    multiply_apart(rows, product);
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
