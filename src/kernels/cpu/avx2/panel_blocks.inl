// Tiles of linears over panels, as panel_tiles.inl cuts them, that ask for the next panel between
// products: while a panel is expanded its lines would wait for each other, and products for them.
// Included where panel_float.inl would be.

#include <cstdint>

#include "kernels/panel_float.inl"

namespace mezzotint::avx2 {
namespace {

// Few rows go through k in blocks whose half of an expanded panel (8 KB) and x (of 16 rows 9 KB)
// stay in the first-level cache.
constexpr int64_t kFewRows = 32;
constexpr int64_t kFewRowsBlockK = 128;
constexpr int64_t block_k_of(int64_t rows) {
  return rows <= kFewRows ? kFewRowsBlockK : kFloatBlockK;
}

constexpr int64_t kLineBytes = 64;
constexpr int64_t kAheadStep = 4;  // k between lines

// `lines` lines for every kAheadStep k of every half of a panel.
struct Ahead {
  const std::byte* next;
  int64_t lines;
  [[gnu::always_inline]] void ask() {
    for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(next + i * kLineBytes);
    next += lines * kLineBytes;
  }
};

template <int kRows>
[[gnu::noinline]] void float_block_hot(const PanelProduct<float>& product, Ahead ahead) noexcept {
  for (int half = 0; half < kHalves; ++half) {
    Vec acc[kRows];
    float* sums = product.sums + half * kLanes;
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      acc[r] = product.sums_are == Sums::kFirst ? splat(0.0f) : load(sums + r * kPanelColumns);
    }
    const float* x = product.x;
    const float* w = product.w + expanded_place(0, half);
    for (int64_t k = 0; k < product.depth; k += kAheadStep) {
      ahead.ask();
#pragma GCC unroll 4
      for (int64_t i = 0; i < kAheadStep; ++i) {
        const Vec column = load(w + i * kLanes);
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          acc[r] = multiply_add(splat(x[r * kFloatStride + i]), column, acc[r]);
        }
      }
      x += kAheadStep;
      w += kAheadStep * kLanes;
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) store(sums + r * kPanelColumns, acc[r]);
  }
}

using FloatBlockFn = void (*)(const PanelProduct<float>&, Ahead) noexcept;
constexpr FloatBlockFn kFloatBlockFns[kTileRows + 1] = {nullptr,
                                                        float_block_hot<1>,
                                                        float_block_hot<2>,
                                                        float_block_hot<3>,
                                                        float_block_hot<4>,
                                                        float_block_hot<5>,
                                                        float_block_hot<6>};

// All rows of a tile, asking for `bytes` bytes from `next` on.
void multiply_block(PanelProduct<float> product, int64_t rows, const std::byte* next,
                    int64_t bytes) {
  const int64_t groups = (rows + kTileRows - 1) / kTileRows;
  const int64_t steps = kHalves * product.depth / kAheadStep;
  const int64_t total = (bytes + kLineBytes - 1) / kLineBytes;
  const int64_t lines = (total + groups * steps - 1) / (groups * steps);
  const float* x = product.x;
  float* sums = product.sums;
  int64_t asked = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t m = rows * g / groups, count = rows * (g + 1) / groups - m;
    product.x = x + m * kFloatStride;
    product.sums = sums + m * kPanelColumns;
    const Ahead ahead = {next + asked * kLineBytes, asked < total ? lines : 0};
    asked += ahead.lines * steps;
    kFloatBlockFns[count](product, ahead);
  }
}

// --- weights -------------------------------------------------------------------------------------

template <typename Weights>
const std::byte* codes_at(const LinearTile& tile, int64_t n, int64_t k) {
  return Weights::panel(tile, n) + k / kPanelStep * Weights::kStepBytes;
}

// Codes of k from i to end of a block, times 32 scales if there are any.
template <typename Weights, typename Scale>
[[gnu::always_inline]] inline void expand_steps(const std::byte* codes, int64_t i, int64_t end,
                                                const Scale& scaled, float* out) {
  for (; i < end; i += kPanelStep) {
    const std::byte* step = codes + i / kPanelStep * Weights::kStepBytes;
    for (int half = 0; half < kHalves; ++half) {
      Weights::for_each_k(step, half, [&](int j, Vec w) __attribute__((always_inline)) {
        store(out + expanded_place(i + j, half), scaled(w, half));
      });
    }
  }
}

// Runs of whole steps of 8 k that share scales without offsets: in one pass. Asks for the same
// scales of the next panel, which stand output by output in a file.
template <typename Weights>
void expand_runs(const LinearTile& tile, int64_t n, int64_t k, int64_t depth, int64_t run,
                 float* out) {
  const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
  const int64_t runs = tile.k / run;
  alignas(64) float scales[kPanelColumns] = {};
  for (int64_t i = 0; i < depth;) {
    const float* values = tile.w_scale + n * runs + (k + i) / run;
    for (int64_t c = 0; c < columns; ++c) {
      scales[c] = values[c * runs];
      __builtin_prefetch(values + (kPanelColumns + c) * runs);
    }
    const int64_t run_end = ((k + i) / run + 1) * run - k;
    const int64_t end = run_end < depth ? run_end : depth;
    expand_steps<Weights>(
        codes_at<Weights>(tile, n, k), i, end,
        [&](Vec w, int half)
            __attribute__((always_inline)) { return w * load(scales + half * kLanes); },
        out);
    i = end;
  }
}

// MX blocks, as expand_mx_panel.
void expand_mx_blocks(const LinearTile& tile, int64_t n, int64_t k, int64_t depth, float* out) {
  alignas(64) float scales[kPanelColumns];
  for (int64_t i = 0; i < depth; i += kMxBlock) {
    const int64_t rows = panel_k(depth - i < kMxBlock ? depth - i : kMxBlock);
    const auto* codes = reinterpret_cast<const uint8_t*>(codes_at<E4M3Weights>(tile, n, k + i));
    load_mx_scales(tile, n, (k + i) / kMxBlock, scales);
    const bool plain = is_plain_e4m3(codes, rows * kPanelColumns, scales);
    for (int half = 0; half < kHalves; ++half) {
      const Vec scale = load(scales + half * kLanes);
      const Vec larger = scale * splat(0x1p8f);
      for (int64_t j = 0; j < rows; ++j) {
        const int64_t at = j * kPanelColumns + half * kLanes;
        store(out + expanded_place(i + j, half),
              plain ? load_small_e4m3(codes + at) * larger : load_e4m3(codes + at) * scale);
      }
    }
  }
}

template <typename Weights>
void expand_block(const LinearTile& tile, int64_t n, int64_t k, int64_t depth, float* out) {
  if constexpr (Weights::kMxBlocks) return expand_mx_blocks(tile, n, k, depth, out);
  const int64_t run = scale_run(tile);
  if (run != 0 && run % kPanelStep == 0 && tile.w_offset == nullptr) {
    return expand_runs<Weights>(tile, n, k, depth, run, out);
  }
  expand_steps<Weights>(
      codes_at<Weights>(tile, n, k), 0, depth,
      [](Vec w, int) __attribute__((always_inline)) { return w; }, out);
  scale_panel(tile, n, k, depth, out);
}

// --- x -------------------------------------------------------------------------------------------

// As widen_row; whole vectors of MX codes without a copy, for which loads would wait.
void widen_block(const LinearTile& tile, int64_t m, int64_t k, int64_t depth, float* out) {
  if (tile.x_block_scale == nullptr || depth % kLanes != 0) {
    return widen_row(tile, m, k, depth, out);
  }
  const auto* codes = reinterpret_cast<const uint8_t*>(tile.xq) + m * tile.xq_stride + k;
  const uint8_t* power = tile.x_block_scale + m * mx_blocks(tile.k) + k / kMxBlock;
  for (int64_t i = 0; i < depth; i += kLanes) {
    store(out + i, load_e4m3(codes + i) * splat(e8m0_to_float(power[i / kMxBlock])));
  }
}

template <typename Weights>
void run_blocks(const LinearTile& tile) {
  auto* x = reinterpret_cast<float*>(tile.scratch);
  float* w = x + kFloatPanelTileM * kFloatStride;
  float* sums = w + kFloatBlockK * kPanelColumns;
  const int64_t rows = tile.m_end - tile.m_begin, block_k = block_k_of(rows);
  for (int64_t k = 0; k < tile.k; k += block_k) {
    const int64_t depth = tile.k - k < block_k ? tile.k - k : block_k;
    const bool last = k + depth == tile.k;
    for (int64_t m = 0; m < rows; ++m) {
      widen_block(tile, tile.m_begin + m, k, depth, x + m * kFloatStride);
    }
    float* panel_sums = sums;
    for (int64_t n = tile.n_begin; n < tile.n_end; n += kPanelColumns) {
      expand_block<Weights>(tile, n, k, depth, w);
      const bool to_next_block = n + kPanelColumns >= tile.n_end && !last;
      multiply_block({.x = x,
                      .w = w,
                      .depth = panel_k(depth),
                      .sums = panel_sums,
                      .sums_are = k == 0 ? Sums::kFirst : Sums::kContinued,
                      .run_scale = nullptr,
                      .runs = {panel_k(depth), true}},
                     rows,
                     to_next_block ? codes_at<Weights>(tile, tile.n_begin, k + block_k)
                                   : codes_at<Weights>(tile, n + kPanelColumns, k),
                     panel_k(depth) / kPanelStep * Weights::kStepBytes);
      if (last) write_panel(tile, scale_behind_sum(tile), n, panel_sums);
      panel_sums += kFloatPanelTileM * kPanelColumns;
    }
  }
}

}  // namespace

void int8_panels_linear(const LinearTile& tile) noexcept { run_blocks<Int8Weights>(tile); }
void e4m3_panels_linear(const LinearTile& tile) noexcept { run_blocks<E4M3Weights>(tile); }
void int4_words_linear(const LinearTile& tile) noexcept { run_blocks<Int4Weights>(tile); }
void bf16_panels_linear(const LinearTile& tile) noexcept { run_blocks<Bf16Weights>(tile); }

}  // namespace mezzotint::avx2
