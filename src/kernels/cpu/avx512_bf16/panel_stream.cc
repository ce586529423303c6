// Linears of up to 16 rows over panels by vdpbf16ps: weights become pairs of bf16 in registers,
// where they are used.
//
// Up to 8 rows take 32 columns at a time, more take 16: 16 accumulators either way, each used once
// in 16 cycles of the pipe of the dot products, and what turns codes into bf16 runs on the other
// pipes beside them: for 16 rows and 16 columns of e4m3 that is 10 instructions after 16 dot
// products. One row is bound by memory.

#include "kernels/cpu/avx512/transpose.h"
#include "kernels/cpu/avx512_bf16/panel_weights.inl"
#include "kernels/float_panel_rows.h"
#include "kernels/panel_tiles.inl"

namespace mezzotint::avx512_bf16 {
namespace {

constexpr int kMaxRows = static_cast<int>(kPanelStream16Rows);
constexpr int kMaxWideRows = 8;
constexpr int kPairs = kPanelStep / 2;  // of a step of 8 k

// Bytes ahead in the panel, which goes on with the next one: to the second-level cache, which keeps
// more misses in flight than the first, and from there.
constexpr int64_t kFarAhead = 8192;
constexpr int64_t kNearAhead = 1024;

// How many vectors of 16 columns are summed at once.
constexpr int width_of(int rows) { return rows <= kMaxWideRows ? 2 : 1; }
// Independent sums per output: 8 in all hide the latency of 6 cycles.
constexpr int phases_of(int rows) { return rows == 1 ? 4 : (rows <= 3 ? 2 : 1); }

template <int kWidth>
using PairWords = __m512i[kWidth];

// --- x -------------------------------------------------------------------------------------------

// x stands in scratch as [k/2][lanes] pairs: rows read in their order hit other banks of the
// first-level cache than rows a multiple of 64 bytes apart, which are all the same one.
constexpr int lanes_of(int rows) { return rows == 1 ? 1 : (rows <= 4 ? 4 : (rows <= 8 ? 8 : 16)); }

constexpr int64_t kXBlock = 512;  // k of the row-major rows on the way
constexpr int64_t kPairValues = 2;

// 32 k of `rows` rows.
[[gnu::always_inline]] inline void transpose_pairs(const uint16_t* block, int64_t rows,
                                                   int64_t lanes, uint16_t* out) {
  __m512 v[kLanes];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kLanes; ++r) {
    v[r] = r < rows ? _mm512_loadu_ps(block + r * kXBlock) : _mm512_setzero_ps();
  }
  transpose16(v);
  const auto mask = static_cast<__mmask16>((1 << lanes) - 1);
#pragma GCC unroll 16
  for (int64_t pair = 0; pair < kLanes; ++pair) {
    _mm512_mask_storeu_ps(out + pair * lanes * kPairValues, mask, v[pair]);
  }
}

template <typename Weights>
void pack_x(const LinearTile& tile, uint16_t* x) {
  const int64_t rows = tile.m_end - tile.m_begin;
  if (rows == 1) return Weights::convert_x(tile, tile.m_begin, 0, tile.k, x);
  const int64_t lanes = lanes_of(static_cast<int>(rows));
  alignas(64) uint16_t block[kMaxRows * kXBlock];
  for (int64_t k = 0; k < tile.k; k += kXBlock) {
    const int64_t depth = tile.k - k < kXBlock ? tile.k - k : kXBlock;
    for (int64_t r = 0; r < rows; ++r) {
      Weights::convert_x(tile, tile.m_begin + r, k, depth, block + r * kXBlock);
    }
    for (int64_t i = 0; i < depth; i += kWords) {
      transpose_pairs(block + i, rows, lanes, x + (k + i) * lanes);
    }
  }
}

// --- scales --------------------------------------------------------------------------------------

// The scales of 16 runs of k, made together: a file has them output by output.
constexpr int64_t kScaleRuns = 16;
template <int kWidth>
struct RunScales {
  alignas(64) float of[kScaleRuns][kWidth * kLanes];
};
static_assert(sizeof(RunScales<kVectors>) == kStreamScaleBytes);

// `count` scales of every output of a panel; those of 16 runs from `first` on are taken.
template <typename Scale>
struct ScaleRows {
  const Scale* scale;  // of output 0, from run `first` on
  int64_t count, first;
  __mmask16 mask() const {
    const int64_t rest = count - first;
    return static_cast<__mmask16>(rest >= kScaleRuns ? 0xffff : (1 << rest) - 1);
  }
  // The next runs of the panel, or the first ones of the next panel.
  void prefetch(int64_t column) const {
    const bool has_more = first + kScaleRuns < count;
    const Scale* next = has_more ? scale + kScaleRuns : scale - first + kPanelColumns * count;
    _mm_prefetch(next + column * count + kScaleRuns - 1, _MM_HINT_T0);
  }
};

// --- 8 k of a panel as bf16, without their scales ------------------------------------------------
//
// For kWidth vectors of columns from vector v on:
//   words(step, v, pair, out)        a pair of k
//   run(tile)                        k that share a scale
//   scales(tile, n, v, first, out)   of runs [first, first + 16), columns in the order of words()
//   in_order(sums)                   columns as they stand in y, where kWidth is 2

struct Int4Stream : Int4Weights {
  static constexpr int64_t kStepBytes = kPanelColumns * 4;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + word_panel_offset(n, 0, tile.k) * 4;
  }
  template <int kWidth>
  [[gnu::always_inline]] static void words(const std::byte* step, int64_t v, unsigned pair,
                                           PairWords<kWidth>& out) {
    const __m512i values = _mm512_loadu_si512(kInt4Words);
#pragma GCC unroll 2
    for (int i = 0; i < kWidth; ++i) {
      const __m512i codes = _mm512_load_si512(step + (v + i) * 64);
      out[i] = _mm512_permutexvar_epi16(_mm512_srli_epi32(codes, 4 * pair), values);
    }
  }
  static int64_t run(const LinearTile& tile) { return tile.w_group == 0 ? tile.k : tile.w_group; }
  template <int kWidth>
  static void scales(const LinearTile& tile, int64_t n, int64_t v, int64_t first,
                     RunScales<kWidth>& out) {
    if (tile.w_group == 0) {
      for (float& scale : out.of[0]) scale = 1.0f;
      return;
    }
    const int64_t groups = tile.k / tile.w_group;
    const ScaleRows<float> rows = {tile.w_scale + n * groups + first, groups, first};
    for (int64_t half = 0; half < kWidth; ++half) {
      __m512 scale[kScaleRuns];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t column = (v + half) * kLanes + i;
        scale[i] = n + column < tile.n
                       ? _mm512_maskz_loadu_ps(rows.mask(), rows.scale + column * groups)
                       : _mm512_setzero_ps();
        rows.prefetch(column);
      }
      transpose16(scale);
#pragma GCC unroll 16
      for (int i = 0; i < kScaleRuns; ++i) _mm512_store_ps(out.of[i] + half * kLanes, scale[i]);
    }
  }
  template <int kWidth>
  static void in_order(float*) {}
};

struct E4M3Stream : E4M3Weights {
  static constexpr int64_t kStepBytes = kPanelStep * kPanelColumns;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + byte_panel_offset(n, 0, tile.k);
  }
  [[gnu::always_inline]] static __m512i decode(__m256i pairs) {
    const __m512i code = _mm512_cvtepi8_epi16(pairs);
    return with_sign(e4m3_magnitudes(code), code);
  }
  template <int kWidth>
  [[gnu::always_inline]] static void words(const std::byte* step, int64_t v, unsigned pair,
                                           PairWords<kWidth>& out) {
    const std::byte* rows = step + pair * 2 * kPanelColumns;
    if constexpr (kWidth == 1) {
      const auto* first = reinterpret_cast<const __m128i*>(rows + v * kLanes);
      const auto* second = reinterpret_cast<const __m128i*>(rows + kPanelColumns + v * kLanes);
      const __m128i a = _mm_load_si128(first), b = _mm_load_si128(second);
      out[0] = decode(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
    } else {
      // Interleaved in their halves of 16: the columns 0..7 and 16..23, then the rest.
      const auto* two = reinterpret_cast<const __m256i*>(rows);
      const __m256i a = _mm256_load_si256(two), b = _mm256_load_si256(two + 1);
      out[0] = decode(_mm256_unpacklo_epi8(a, b));
      out[1] = decode(_mm256_unpackhi_epi8(a, b));
    }
  }
  template <int kWidth>
  static constexpr int64_t column(int64_t v, int64_t half, int64_t i) {
    return kWidth == 1 ? v * kLanes + i : i / 8 * 16 + half * 8 + i % 8;
  }
  static int64_t run(const LinearTile&) { return kMxBlock; }
  // The powers of two of e8m0 bytes, numerics/e8m0.h. Sums are scaled, exactly but for what leaves
  // the range of floats.
  [[gnu::always_inline]] static __m512 powers(__m128i bytes) {
    const __m512i wide = _mm512_cvtepu8_epi32(bytes);
    const auto is = [&](int byte) __attribute__((always_inline)) {
      return _mm512_cmpeq_epi32_mask(wide, _mm512_set1_epi32(byte));
    };
    __m512i bits = _mm512_slli_epi32(wide, 23);
    bits = _mm512_mask_mov_epi32(bits, is(0), _mm512_set1_epi32(0x00400000));  // 2^-127
    bits = _mm512_mask_mov_epi32(bits, is(kE8M0NaN), _mm512_set1_epi32(0x7fc00000));
    return _mm512_castsi512_ps(bits);
  }
  template <int kWidth>
  static void scales(const LinearTile& tile, int64_t n, int64_t v, int64_t first,
                     RunScales<kWidth>& out) {
    const int64_t blocks = mx_blocks(tile.k);
    const ScaleRows<uint8_t> rows = {tile.w_block_scale + n * blocks + first, blocks, first};
    for (int64_t half = 0; half < kWidth; ++half) {
      __m128i bytes[kScaleRuns];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t c = column<kWidth>(v, half, i);
        bytes[i] = n + c < tile.n ? _mm_maskz_loadu_epi8(rows.mask(), rows.scale + c * blocks)
                                  : _mm_setzero_si128();
        rows.prefetch(c);
      }
      transpose16(bytes);
#pragma GCC unroll 16
      for (int i = 0; i < kScaleRuns; ++i) {
        _mm512_store_ps(out.of[i] + half * kLanes, powers(bytes[i]));
      }
    }
  }
  template <int kWidth>
  static void in_order(float* sums) {
    if constexpr (kWidth == 2) {
      constexpr int kLowerHalves = 0x44, kUpperHalves = 0xee;
      const __m512 lower = _mm512_load_ps(sums), upper = _mm512_load_ps(sums + kLanes);
      _mm512_store_ps(sums, _mm512_shuffle_f32x4(lower, upper, kLowerHalves));
      _mm512_store_ps(sums + kLanes, _mm512_shuffle_f32x4(lower, upper, kUpperHalves));
    }
  }
};

// --- rows ----------------------------------------------------------------------------------------

template <int kRows>
using Accumulators = __m512[phases_of(kRows)][kRows][width_of(kRows)];

// sums += acc * scale of a run.
template <int kRows>
[[gnu::always_inline]] inline void add_run(const float* scale, Accumulators<kRows>& acc,
                                           float* sums) {
  constexpr int kPhases = phases_of(kRows), kWidth = width_of(kRows);
#pragma GCC unroll 2
  for (int v = 0; v < kWidth; ++v) {
    const __m512 run_scale = _mm512_load_ps(scale + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int p = 1; p < kPhases; ++p) {
        acc[0][r][v] = _mm512_add_ps(acc[0][r][v], acc[p][r][v]);
      }
      float* sum = sums + r * kPanelColumns + v * kLanes;
      _mm512_store_ps(sum, _mm512_fmadd_ps(acc[0][r][v], run_scale, _mm512_load_ps(sum)));
    }
  }
}

// sums += x w for the columns of vector v, or of both.
template <typename Weights, int kRows>
[[gnu::noinline]] void bf16_stream_hot(const LinearTile& tile, int64_t n, int64_t v, float* sums) {
  constexpr int kPhases = phases_of(kRows), kWidth = width_of(kRows);
  constexpr int64_t kPairStride = lanes_of(kRows) * kPairValues;
  const auto* x = reinterpret_cast<const uint16_t*>(tile.scratch + kStreamScaleBytes);
  const std::byte* w = Weights::panel(tile, n);
  const int64_t run = Weights::run(tile);
  auto& scales = *reinterpret_cast<RunScales<kWidth>*>(tile.scratch);
  int64_t i = 0;  // of the run
  for (int64_t k = 0; k < tile.k; k += run, ++i) {
    if (i % kScaleRuns == 0) Weights::template scales<kWidth>(tile, n, v, i, scales);
    const int64_t depth = panel_k(tile.k - k < run ? tile.k - k : run);
    Accumulators<kRows> acc;
#pragma GCC unroll 4
    for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int u = 0; u < kWidth; ++u) acc[p][r][u] = _mm512_setzero_ps();
      }
    }
    for (int64_t step = 0; step < depth; step += kPanelStep) {
#pragma GCC unroll 4
      for (int64_t line = 0; line < Weights::kStepBytes; line += 64) {
        _mm_prefetch(w + kFarAhead + line, _MM_HINT_T1);
        _mm_prefetch(w + kNearAhead + line, _MM_HINT_T0);
      }
#pragma GCC unroll 4
      for (unsigned pair = 0; pair < kPairs; ++pair) {
        PairWords<kWidth> words;
        Weights::template words<kWidth>(w, v, pair, words);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const uint16_t* value = x + pair * kPairStride + r * kPairValues;
#pragma GCC unroll 2
          for (int u = 0; u < kWidth; ++u) dot(acc[pair % kPhases][r][u], words[u], value);
        }
      }
      w += Weights::kStepBytes;
      x += kPairs * kPairStride;
    }
    add_run<kRows>(scales.of[i % kScaleRuns], acc, sums);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) Weights::template in_order<kWidth>(sums + r * kPanelColumns);
}

template <typename Weights, int kRows = kMaxRows>
void stream_panel(const LinearTile& tile, int64_t n, float* sums) {
  if constexpr (kRows > 1) {
    if (tile.m_end - tile.m_begin < kRows) return stream_panel<Weights, kRows - 1>(tile, n, sums);
  }
  __builtin_memset(sums, 0, sizeof(float) * kRows * kPanelColumns);
  for (int64_t v = 0; v < kVectors; v += width_of(kRows)) {
    bf16_stream_hot<Weights, kRows>(tile, n, v, sums + v * kLanes);
  }
}

template <typename Weights>
void run_stream(const LinearTile& tile) {
  pack_x<Weights>(tile, reinterpret_cast<uint16_t*>(tile.scratch + kStreamScaleBytes));
  const float* w_scale = tile.w_group == 0 ? tile.w_scale : nullptr;
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kPanelColumns) {
    alignas(64) float sums[kMaxRows * kPanelColumns];
    stream_panel<Weights>(tile, n, sums);
    write_panel(tile, w_scale, n, sums);
  }
}

}  // namespace

void e4m3_panels_stream(const LinearTile& tile) noexcept { run_stream<E4M3Stream>(tile); }
void int4_words_stream(const LinearTile& tile) noexcept { run_stream<Int4Stream>(tile); }

}  // namespace mezzotint::avx512_bf16
