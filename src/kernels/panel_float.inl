// Linears over panels in f32, every type of x, for one ISA: x and w become floats and meet by fused
// multiply-adds. Included after that ISA's vec16.h, with MZ_ISA naming its namespace and with
// kTileRows x kTileVectors, the accumulators that its registers hold.

#include <bit>
#include <cstdint>

#include "kernels/float_panel_rows.h"
#include "kernels/ops.h"
#include "kernels/panel_layout.h"
#include "kernels/panel_tiles.inl"
#include "numerics/e4m3.h"
#include "numerics/e8m0.h"
#include "numerics/mx.h"

namespace mezzotint::MZ_ISA {
namespace {

constexpr int kHalves = 2;  // vectors of 16 columns in a panel

// --- the layouts: 8 k of 16 columns as floats ----------------------------------------------------
//
// for_each_k hands over one k after the other, use(i, w), and holds no more than that of them: on
// AVX2 eight are all registers there are.

struct Int8Weights {
  static constexpr bool kMxBlocks = false;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + byte_panel_offset(n, 0, tile.k);
  }
  static constexpr int64_t kStepBytes = kPanelStep * kPanelColumns;
  template <typename Use>
  [[gnu::always_inline]] static void for_each_k(const std::byte* step, int half, const Use& use) {
    const auto* codes = reinterpret_cast<const int8_t*>(step) + half * kLanes;
#pragma GCC unroll 8
    for (int i = 0; i < kPanelStep; ++i) use(i, load_int8(codes + i * kPanelColumns));
  }
};

struct E4M3Weights {
  static constexpr bool kMxBlocks = true;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return Int8Weights::panel(tile, n);
  }
  static constexpr int64_t kStepBytes = Int8Weights::kStepBytes;
  template <typename Use>
  [[gnu::always_inline]] static void for_each_k(const std::byte* step, int half, const Use& use) {
    const auto* codes = reinterpret_cast<const uint8_t*>(step) + half * kLanes;
#pragma GCC unroll 8
    for (int i = 0; i < kPanelStep; ++i) use(i, load_e4m3(codes + i * kPanelColumns));
  }
};

struct Int4Weights {
  static constexpr bool kMxBlocks = false;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + word_panel_offset(n, 0, tile.k) * kWordBytes;
  }
  static constexpr int64_t kWordBytes = 4;
  static constexpr int64_t kStepBytes = kPanelColumns * kWordBytes;
  template <typename Use>
  [[gnu::always_inline]] static void for_each_k(const std::byte* step, int half, const Use& use) {
    const Int4Words words =
        load_int4_words(reinterpret_cast<const uint32_t*>(step) + half * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kPanelStep; ++i) use(i, int4_of(words, word_panel_shift(i)));
  }
};

struct Bf16Weights {
  static constexpr bool kMxBlocks = false;
  static const std::byte* panel(const LinearTile& tile, int64_t n) {
    return tile.w + bf16_panel_offset(n, 0, tile.k) * kBytes;
  }
  static constexpr int64_t kBytes = 2;
  static constexpr int64_t kStepBytes = kPanelStep * kPanelColumns * kBytes;
  template <typename Use>
  [[gnu::always_inline]] static void for_each_k(const std::byte* step, int half, const Use& use) {
    const auto* pairs = reinterpret_cast<const uint16_t*>(step) + half * kLanes * 2;
#pragma GCC unroll 4
    for (int i = 0; i < kPanelStep; i += 2) {
      Vec even, odd;
      load_bf16_pairs(pairs + i * kPanelColumns, even, odd);
      use(i, even);
      use(i + 1, odd);
    }
  }
};

// --- scales --------------------------------------------------------------------------------------

// One scale per output, exact behind the sum; otherwise null.
inline const float* scale_behind_sum(const LinearTile& tile) {
  return tile.w_group == 0 && tile.w_offset == nullptr ? tile.w_scale : nullptr;
}

// k that share a scale; 0: none but what stands behind the sum.
inline int64_t scale_run(const LinearTile& tile) {
  if (tile.w_block_scale != nullptr) return kMxBlock;
  if (tile.w_scale == nullptr || scale_behind_sum(tile) != nullptr) return 0;
  return tile.w_group == 0 ? tile.k : tile.w_group;
}

// The scales and offsets of run i of the panel at n.
struct RunScale {
  alignas(64) float scale[kPanelColumns];
  alignas(64) float offset[kPanelColumns];
};

// Of block i of the columns that exist, else 2^-127.
inline void load_mx_scales(const LinearTile& tile, int64_t n, int64_t i, float* scale) {
  const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
  const int64_t blocks = mx_blocks(tile.k);
  alignas(64) int32_t byte[kPanelColumns];
  for (int64_t c = 0; c < columns; ++c) byte[c] = tile.w_block_scale[(n + c) * blocks + i];
  for (int64_t c = columns; c < kPanelColumns; ++c) byte[c] = 0;
  for (int64_t c = 0; c < kPanelColumns; ++c) {  // e8m0_to_float without branches
    const int32_t bits = byte[c] == 0 ? 0x00400000 : byte[c] << 23;
    scale[c] = std::bit_cast<float>(byte[c] == kE8M0NaN ? 0x7fc00000 : bits);
  }
}

inline void load_run_scale(const LinearTile& tile, int64_t n, int64_t run, int64_t i,
                           RunScale& out) {
  const int64_t columns = tile.n - n < kPanelColumns ? tile.n - n : kPanelColumns;
  const auto same = [](float value) __attribute__((always_inline)) { return value; };
  if (tile.w_block_scale != nullptr) {
    load_mx_scales(tile, n, i, out.scale);
  } else {
    const int64_t runs = tile.k / run;
    column_values(tile.w_scale + n * runs, runs, i, columns, 0.0f, same, out.scale);
    if (tile.w_offset != nullptr) {
      column_values(tile.w_offset + n * runs, runs, i, columns, 0.0f, same, out.offset);
      return;
    }
  }
  for (float& offset : out.offset) offset = 0.0f;
}

// Where k = i of a half stands in an expanded panel. Rows that take both halves at once read
// [depth][32]. The others read [2][kFloatBlockK][16]: of [depth][32] a half is every second line,
// which fills half of the sets of the first-level cache and leaves no room for x (Zen 3: 10 instead
// of 6.4 cycles for 12 FMA).
constexpr int64_t kExpandedRow = kTileVectors * kLanes;
constexpr int64_t kExpandedHalf = kTileVectors == kHalves ? kLanes : kFloatBlockK * kLanes;
[[gnu::always_inline]] inline int64_t expanded_place(int64_t i, int64_t half) {
  return i * kExpandedRow + half * kExpandedHalf;
}

// The expanded w of the panel at n, from k on: (w - offset) * scale in place.
inline void scale_panel(const LinearTile& tile, int64_t n, int64_t k, int64_t depth, float* w) {
  const int64_t run = scale_run(tile);
  if (run == 0) return;
  RunScale scales;
  for (int64_t at = k; at < k + depth;) {
    load_run_scale(tile, n, run, at / run, scales);
    const int64_t run_end = (at / run + 1) * run;
    const int64_t end = run_end < k + depth ? run_end : k + depth;
    for (int half = 0; half < kHalves; ++half) {
      const Vec scale = load(scales.scale + half * kLanes);
      const Vec offset = load(scales.offset + half * kLanes);
      for (int64_t i = at - k; i < end - k; ++i) {
        float* row = w + expanded_place(i, half);
        store(row, (load(row) - offset) * scale);
      }
    }
    at = end;
  }
}

// Whether load_small_e4m3 may read them: no NaN among the codes, and no scale whose product with
// 2^8 overflows.
inline bool is_plain_e4m3(const uint8_t* codes, int64_t count, const float* scale) {
  uint8_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<uint8_t>(codes[i] & 0x7fu);
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t beyond = 0;
  for (int64_t c = 0; c < kPanelColumns; ++c) beyond |= scale[c] <= 0x1p119f ? 0 : 1;
  return largest != kE4M3NaN && beyond == 0;
}

// Asks for the bytes of the next panel that stand where these do.
template <typename Weights>
[[gnu::always_inline]] inline void prefetch_next_panel(const LinearTile& tile, int64_t n,
                                                       const std::byte* codes, int64_t bytes) {
  constexpr int64_t kLine = 64;
  const std::byte* next = codes + (Weights::panel(tile, kPanelColumns) - Weights::panel(tile, 0));
  if (n + kPanelColumns >= tile.n_end) return;
  for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(next + at);
}

// The codes of MX blocks times their scales, as for_each_k and scale_panel give them.
inline void expand_mx_panel(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                            float* out) {
  alignas(64) float scales[kPanelColumns];
  for (int64_t i = 0; i < depth; i += kMxBlock) {
    const int64_t rows = panel_k(depth - i < kMxBlock ? depth - i : kMxBlock);
    const auto* codes =
        reinterpret_cast<const uint8_t*>(E4M3Weights::panel(tile, n)) + (k + i) * kPanelColumns;
    load_mx_scales(tile, n, (k + i) / kMxBlock, scales);
    const bool plain = is_plain_e4m3(codes, rows * kPanelColumns, scales);
    prefetch_next_panel<E4M3Weights>(tile, n, reinterpret_cast<const std::byte*>(codes),
                                     rows * kPanelColumns);
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

// --- x as floats ---------------------------------------------------------------------------------

// k of [k, k + depth), k at the beginning of a block; lanes behind the end are zeros, up to a
// multiple of 16.
inline void widen_mx_row(const LinearTile& tile, int64_t m, int64_t k, int64_t depth, float* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(tile.xq) + m * tile.xq_stride + k;
  const uint8_t* power = tile.x_block_scale + m * mx_blocks(tile.k) + k / kMxBlock;
  for (int64_t i = 0; i < depth; i += kLanes) {
    uint8_t block[kLanes] = {};
    const int64_t count = depth - i < kLanes ? depth - i : kLanes;
    __builtin_memcpy(block, codes + i, static_cast<size_t>(count));
    store(out + i, load_e4m3(block) * splat(e8m0_to_float(power[i / kMxBlock])));
  }
}

inline void widen_row(const LinearTile& tile, int64_t m, int64_t k, int64_t depth, float* out) {
  if (tile.x_block_scale != nullptr) {
    widen_mx_row(tile, m, k, depth, out);
    return;
  }
  with_float_type(tile.x_type, [&](auto type) __attribute__((always_inline)) {
    for_each_block(depth, [&](int64_t i, auto part) __attribute__((always_inline)) {
      store(out + i, load_as(type, part, tile.x, m * tile.x_stride + k + i));
    });
  });
}

// --- tiles ---------------------------------------------------------------------------------------

constexpr int64_t kFloatStride = kFloatBlockK + kPanelPadBytes / 4;

// The stride of x is a constant: rows are displacements of one pointer.
template <int kRows>
void float_panel_hot(const PanelProduct<float>& product) {
  for (int half = 0; half < kHalves; half += kTileVectors) {
    Vec acc[kRows][kTileVectors];
    float* sums = product.sums + half * kLanes;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        acc[r][v] = product.sums_are == Sums::kFirst ? splat(0.0f)
                                                     : load(sums + r * kPanelColumns + v * kLanes);
      }
    }
    const float* x = product.x;
    const float* w = product.w + expanded_place(0, half);
    for (int64_t k = 0; k < product.depth; ++k) {
      Vec column[kTileVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) column[v] = load(w + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Vec value = splat(x[r * kFloatStride]);
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          acc[r][v] = multiply_add(value, column[v], acc[r][v]);
        }
      }
      ++x;
      w += kExpandedRow;
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        store(sums + r * kPanelColumns + v * kLanes, acc[r][v]);
      }
    }
  }
}

template <int kRows>
void multiply_floats(int64_t rows, const PanelProduct<float>& product) {
  if (rows == kRows) return float_panel_hot<kRows>(product);
  if constexpr (kRows > 1) multiply_floats<kRows - 1>(rows, product);
}

template <typename Weights>
struct FloatMath {
  using Value = float;
  static constexpr int64_t kBlockK = kFloatBlockK;
  static constexpr int64_t kMaxRows = kTileRows;
  static constexpr int64_t kMaxRuns = 1;

  static const float* output_scale(const LinearTile& tile) { return scale_behind_sum(tile); }
  static void convert_x(const LinearTile& tile, int64_t m, int64_t k, int64_t depth, float* out) {
    widen_row(tile, m, k, depth, out);
  }
  static const float* expand(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                             float* out) {
    if constexpr (Weights::kMxBlocks) {
      expand_mx_panel(tile, n, k, depth, out);
      return out;
    }
    const std::byte* step = Weights::panel(tile, n) + k / kPanelStep * Weights::kStepBytes;
    for (int64_t i = 0; i < depth; i += kPanelStep) {
      prefetch_next_panel<Weights>(tile, n, step, Weights::kStepBytes);
      for (int half = 0; half < kHalves; ++half) {
        Weights::for_each_k(step, half, [&](int j, Vec w) __attribute__((always_inline)) {
          store(out + expanded_place(i + j, half), w);
        });
      }
      step += Weights::kStepBytes;
    }
    scale_panel(tile, n, k, depth, out);
    return out;
  }
  static Runs run_scales(const LinearTile&, int64_t, int64_t, int64_t, float*) { return {}; }
  static void multiply(int64_t rows, const PanelProduct<float>& product) {
    multiply_floats<kTileRows>(rows, product);
  }
};

}  // namespace
}  // namespace mezzotint::MZ_ISA
