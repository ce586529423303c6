// Linears of at most four rows over panels: weights stream by once and become floats in registers.
// Included after panel_float.inl.

namespace mezzotint::MZ_ISA {
namespace {

constexpr int kStreamRows = static_cast<int>(kPanelStreamMaxRows);
constexpr int64_t kLine = 64;
constexpr int64_t kStreamAhead = 2048;  // bytes: 100 ns at the rate of memory
// Of MX blocks, which take longer: to the second-level cache, which keeps more misses in flight
// than the first, and from there.
constexpr int64_t kFarAhead = 8192;
constexpr int64_t kNearAhead = 1024;
template <typename Weights>
constexpr bool kAsksTwice = Weights::kMxBlocks && !kOneRegister;  // not measured on AVX-512

// Independent sums per output: with one row, 2 vectors of columns x 4 phases of k hide the latency
// of 4 cycles on two pipes.
constexpr int stream_phases(int rows) { return rows == 1 ? 4 : (rows == 2 ? 2 : 1); }

template <int kRows>
using StreamSums = Vec[kRows][kHalves];

// sums = x w over `steps` steps of 8 k.
template <typename Weights, int kRows>
[[gnu::always_inline]] inline void stream_run(const std::byte* w, int64_t steps, const float* x,
                                              int64_t x_stride, StreamSums<kRows>& sums) {
  constexpr int kPhases = stream_phases(kRows);
  Vec acc[kPhases][kRows][kHalves];
#pragma GCC unroll 4
  for (int p = 0; p < kPhases; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[p][r][0] = acc[p][r][1] = splat(0.0f);
  }
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 8
    for (int64_t line = 0; line < Weights::kStepBytes; line += kLine) {
      if constexpr (kAsksTwice<Weights>) __builtin_prefetch(w + kFarAhead + line, 0, 2);
      __builtin_prefetch(w + (kAsksTwice<Weights> ? kNearAhead : kStreamAhead) + line);
    }
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      Weights::for_each_k(w, half, [&](int i, Vec column) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          Vec& sum = acc[i % kPhases][r][half];
          sum = multiply_add(splat(x[r * x_stride + i]), column, sum);
        }
      });
    }
    w += Weights::kStepBytes;
    x += kPanelStep;
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      sums[r][half] = acc[0][r][half];
#pragma GCC unroll 4
      for (int p = 1; p < kPhases; ++p) sums[r][half] = sums[r][half] + acc[p][r][half];
    }
  }
}

// 2^-8 of e4m3 codes that are not NaN.
struct SmallE4M3Weights : E4M3Weights {
  template <typename Use>
  [[gnu::always_inline]] static void for_each_k(const std::byte* step, int half, const Use& use) {
    const auto* codes = reinterpret_cast<const uint8_t*>(step) + half * kLanes;
#pragma GCC unroll 8
    for (int i = 0; i < kPanelStep; ++i) use(i, load_small_e4m3(codes + i * kPanelColumns));
  }
};

// One MX block: sums without the scale, or 2^-8 of them and a scale 2^8 times as large.
template <int kRows>
[[gnu::always_inline]] inline void stream_mx_block(const std::byte* w, int64_t k, const float* x,
                                                   int64_t x_stride, float* scale,
                                                   StreamSums<kRows>& sums) {
  if (!is_plain_e4m3(reinterpret_cast<const uint8_t*>(w), k * kPanelColumns, scale)) {
    return stream_run<E4M3Weights, kRows>(w, k / kPanelStep, x, x_stride, sums);
  }
  for (int64_t c = 0; c < kPanelColumns; ++c) scale[c] *= 0x1p8f;
  stream_run<SmallE4M3Weights, kRows>(w, k / kPanelStep, x, x_stride, sums);
}

template <typename Weights, int kRows>
[[gnu::noinline]] void stream_panel_hot(const LinearTile& tile, int64_t n, float* sums) {
  const auto* x = reinterpret_cast<const float*>(tile.scratch);
  const int64_t x_stride = panel_k(tile.k);
  const std::byte* w = Weights::panel(tile, n);
  const int64_t run = scale_run(tile);
  StreamSums<kRows> total;
  if (run == 0) {
    stream_run<Weights, kRows>(w, x_stride / kPanelStep, x, x_stride, total);
  } else {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) total[r][0] = total[r][1] = splat(0.0f);
    for (int64_t k = 0; k < tile.k; k += run) {
      RunScale scales;
      load_run_scale(tile, n, run, k / run, scales);
      const int64_t depth = tile.k - k < run ? tile.k - k : run;
      StreamSums<kRows> part;
      if constexpr (kAsksTwice<Weights>) {
        // A file has scales output by output: those of the next panel are one range.
        __builtin_prefetch(tile.w_block_scale + (n + kPanelColumns) * mx_blocks(tile.k) +
                           k / run * kPanelColumns);
        stream_mx_block<kRows>(w + k * kPanelColumns, panel_k(depth), x + k, x_stride, scales.scale,
                               part);
      } else {
        stream_run<Weights, kRows>(w + k / kPanelStep * Weights::kStepBytes,
                                   panel_k(depth) / kPanelStep, x + k, x_stride, part);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half) {
          total[r][half] =
              multiply_add(part[r][half], load(scales.scale + half * kLanes), total[r][half]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    store(sums + r * kPanelColumns, total[r][0]);
    store(sums + r * kPanelColumns + kLanes, total[r][1]);
  }
}

template <typename Weights, int kRows>
void stream_rows(int64_t rows, const LinearTile& tile) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return stream_rows<Weights, kRows - 1>(rows, tile);
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kPanelColumns) {
    float sums[kStreamRows * kPanelColumns];
    stream_panel_hot<Weights, kRows>(tile, n, sums);
    write_panel(tile, scale_behind_sum(tile), n, sums);
  }
}

template <typename Weights>
void run_stream(const LinearTile& tile) {
  auto* x = reinterpret_cast<float*>(tile.scratch);
  const int64_t stride = panel_k(tile.k);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    widen_row(tile, m, 0, tile.k, x + (m - tile.m_begin) * stride);
  }
  stream_rows<Weights, kStreamRows>(tile.m_end - tile.m_begin, tile);
}

}  // namespace

void int8_panels_stream(const LinearTile& tile) noexcept { run_stream<Int8Weights>(tile); }
void e4m3_panels_stream(const LinearTile& tile) noexcept { run_stream<E4M3Weights>(tile); }
void int4_words_stream(const LinearTile& tile) noexcept { run_stream<Int4Weights>(tile); }
void bf16_panels_stream(const LinearTile& tile) noexcept { run_stream<Bf16Weights>(tile); }

}  // namespace mezzotint::MZ_ISA
