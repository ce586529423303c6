// Linears of at most four rows over panels by vdpbf16ps: weights stream by once and become pairs of
// bf16 in registers. Included by panel_linear.cc.

namespace mezzotint::avx512_bf16 {
namespace {

constexpr int kStreamRows = static_cast<int>(kPanelStreamMaxRows);
constexpr int kPairs = kPanelStep / 2;        // of a step of 8 k
constexpr int64_t kStreamAhead = 2048;        // bytes: 100 ns at the rate of memory
using StepWords = __m512i[kPairs][kVectors];  // [pair of k][16 columns]

// Independent sums per output: 8 hide the latency of 6 cycles.
constexpr int stream_phases(int rows) { return rows == 1 ? 4 : (rows == 4 ? 1 : 2); }

// --- 8 k of a panel as bf16, without their scales ------------------------------------------------

struct Int4Stream : Int4Weights {
  static constexpr int64_t kStepBytes = kPanelColumns * 4;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + word_panel_offset(n, 0, tile.k) * 4;
  }
  [[gnu::always_inline]] static void words(const std::byte* step, StepWords& out) {
    const __m512i values = _mm512_loadu_si512(kInt4Words);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __m512i codes = _mm512_load_si512(step + v * 64);
#pragma GCC unroll 4
      for (unsigned pair = 0; pair < kPairs; ++pair) {
        out[pair][v] = _mm512_permutexvar_epi16(_mm512_srli_epi32(codes, 4 * pair), values);
      }
    }
  }
  static int64_t run(const LinearTile& tile) { return tile.w_group == 0 ? tile.k : tile.w_group; }
  static void scales(const LinearTile& tile, int64_t n, int64_t k, float* out) {
    if (tile.w_group == 0) {
      for (int64_t c = 0; c < kPanelColumns; ++c) out[c] = 1.0f;
      return;
    }
    const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
    const int64_t groups = tile.k / tile.w_group;
    column_values(
        tile.w_scale + n * groups, groups, k / tile.w_group, columns, 0.0f,
        [](float scale) __attribute__((always_inline)) { return scale; }, out);
  }
};

struct E4M3Stream : E4M3Weights {
  static constexpr int64_t kStepBytes = kPanelStep * kPanelColumns;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + byte_panel_offset(n, 0, tile.k);
  }
  [[gnu::always_inline]] static void words(const std::byte* step, StepWords& out) {
#pragma GCC unroll 4
    for (int pair = 0; pair < kPairs; ++pair) {
      const auto* codes = reinterpret_cast<const __m256i*>(step + pair * 2 * kPanelColumns);
      const __m512i first = _mm512_cvtepi8_epi16(_mm256_load_si256(codes));
      const __m512i second = _mm512_cvtepi8_epi16(_mm256_load_si256(codes + 1));
      interleave(with_sign(e4m3_magnitudes(first), first),
                 with_sign(e4m3_magnitudes(second), second), out[pair][0], out[pair][1]);
    }
  }
  static int64_t run(const LinearTile&) { return kMxBlock; }
  // Sums are scaled, exactly but for what leaves the range of floats.
  static void scales(const LinearTile& tile, int64_t n, int64_t k, float* out) {
    alignas(32) uint8_t bytes[kPanelColumns];
    load_block_bytes(tile, n, k / kMxBlock, bytes);
    for (int64_t c = 0; c < kPanelColumns; ++c) out[c] = e8m0_to_float(bytes[c]);
  }
};

// --- rows ----------------------------------------------------------------------------------------

template <typename Weights, int kRows>
[[gnu::noinline]] void bf16_stream_hot(const LinearTile& tile, int64_t n, float* sums) {
  constexpr int kPhases = stream_phases(kRows);
  const int64_t stride = panel_k(tile.k);
  const auto* x = reinterpret_cast<const uint16_t*>(tile.scratch);
  const std::byte* w = Weights::panel(tile, n);
  const int64_t run = Weights::run(tile);
  __m512 total[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) total[r][0] = total[r][1] = _mm512_setzero_ps();
  for (int64_t k = 0; k < tile.k; k += run) {
    alignas(64) float scale[kPanelColumns];
    Weights::scales(tile, n, k, scale);
    const int64_t depth = panel_k(tile.k - k < run ? tile.k - k : run);
    __m512 acc[kPhases][kRows][kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[p][r][0] = acc[p][r][1] = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < depth; i += kPanelStep) {
#pragma GCC unroll 4
      for (int64_t line = 0; line < Weights::kStepBytes; line += 64) {
        _mm_prefetch(w + kStreamAhead + line, _MM_HINT_T0);
      }
      StepWords words;
      Weights::words(w, words);
#pragma GCC unroll 4
      for (int pair = 0; pair < kPairs; ++pair) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            dot(acc[pair % kPhases][r][v], words[pair][v], x + r * stride + 2 * pair);
          }
        }
      }
      w += Weights::kStepBytes;
      x += kPanelStep;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
        for (int p = 1; p < kPhases; ++p) {
          acc[0][r][v] = _mm512_add_ps(acc[0][r][v], acc[p][r][v]);
        }
        total[r][v] =
            _mm512_fmadd_ps(acc[0][r][v], _mm512_load_ps(scale + v * kLanes), total[r][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(sums + r * kPanelColumns, total[r][0]);
    _mm512_storeu_ps(sums + r * kPanelColumns + kLanes, total[r][1]);
  }
}

template <typename Weights, int kRows>
void stream_rows(int64_t rows, const LinearTile& tile) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return stream_rows<Weights, kRows - 1>(rows, tile);
  }
  const float* w_scale = Bf16Math<Weights>::output_scale(tile);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kPanelColumns) {
    float sums[kStreamRows * kPanelColumns];
    bf16_stream_hot<Weights, kRows>(tile, n, sums);
    write_panel(tile, w_scale, n, sums);
  }
}

template <typename Weights>
void run_stream(const LinearTile& tile) {
  auto* x = reinterpret_cast<uint16_t*>(tile.scratch);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    Weights::convert_x(tile, m, 0, tile.k, x + (m - tile.m_begin) * panel_k(tile.k));
  }
  stream_rows<Weights, kStreamRows>(tile.m_end - tile.m_begin, tile);
}

}  // namespace

void e4m3_panels_stream(const LinearTile& tile) noexcept { run_stream<E4M3Stream>(tile); }
void int4_words_stream(const LinearTile& tile) noexcept { run_stream<Int4Stream>(tile); }

}  // namespace mezzotint::avx512_bf16
