// One tile of a linear over panels, for one ISA and one way to multiply (float_panel_rows.h says
// how a tile is cut). Included after that ISA's vec16.h, with MZ_ISA naming its namespace.
//
// `Math` says what x and w become and how they meet:
//   using Value                                    float, or uint16_t for bf16
//   kBlockK, kMaxRows, kMaxRuns
//   output_scale(tile)                             one per output, behind the sum; or null
//   run_scales(tile, n, k, depth, out) -> Runs     of a block of a panel; out as run_scale
//   convert_x(tile, m, k, depth, out)              one row, zeros up to panel_k(depth)
//   expand(tile, n, k, depth, out) -> panel        as multiply reads it
//   multiply(rows, PanelProduct<Value>)            sums (+)= x panel
#ifndef MEZZOTINT_KERNELS_PANEL_TILES_INL_
#define MEZZOTINT_KERNELS_PANEL_TILES_INL_

#include <cstdint>

#include "kernels/float_panel_rows.h"
#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"

namespace mezzotint::MZ_ISA {
namespace {

// Whether sums of earlier blocks of k wait in scratch.
enum class Sums : uint8_t { kFirst, kContinued };

// Runs of k that share a scale, in a block. Chained ones hand their sums on: run_scale holds what a
// run's sums are multiplied by to be in units of the next run's scale, and last that scale; else
// every run's own.
struct Runs {
  int64_t k = 0;  // of a run; 0: no scales
  bool chained = false;
};

template <typename Value>
struct PanelProduct {
  const Value* x;  // row 0 of the group; the stride is a constant of Math
  const Value* w;  // the panel's block
  int64_t depth;   // k of the block, a multiple of kPanelStep
  float* sums;     // [rows][32]
  Sums sums_are;
  const float* run_scale;  // [depth / runs.k][32], or null
  Runs runs;
};

template <typename Math>
constexpr int64_t x_stride_of() {
  using Value = typename Math::Value;
  return Math::kBlockK + kPanelPadBytes / static_cast<int64_t>(sizeof(Value));
}

// values[c] = base[(n + c) * stride + i] for the columns that exist, else `rest`.
template <typename Number, typename Convert>
void column_values(const Number* base, int64_t stride, int64_t i, int64_t columns, float rest,
                   const Convert& convert, float* values) {
  for (int64_t c = 0; c < kPanelColumns; ++c) {
    values[c] = c < columns ? convert(base[c * stride + i]) : rest;
  }
}

// y = sums * w_scale + bias + addend for one panel of the tile. The scale is null unless there is
// one per output, exact behind the sum.
inline void write_panel(const LinearTile& tile, const float* w_scale, int64_t n,
                        const float* sums) {
  const int64_t columns = tile.n_end - n < kPanelColumns ? tile.n_end - n : kPanelColumns;
  with_float_type(tile.y_type, [&](auto type) __attribute__((always_inline)) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const auto rows = [&](auto part) __attribute__((always_inline)) {
        const Vec scale =
            w_scale == nullptr ? splat(1.0f) : load_lanes(part, w_scale + n + c, 1.0f);
        const Vec bias =
            tile.bias == nullptr ? splat(0.0f) : load_lanes(part, tile.bias + n + c, 0.0f);
        for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
          const Vec sum = load(sums + (m - tile.m_begin) * kPanelColumns + c);
          Vec y = sum * scale + bias;
          if (tile.addend != nullptr) {
            y = y + load_lanes(part, tile.addend + m * tile.addend_stride + n + c, 0.0f);
          }
          store_as(type, part, tile.y, m * tile.y_stride + n + c, y);
        }
      };
      if (columns - c >= kLanes) {
        rows(WholeBlock{});
      } else {
        rows(PartOfBlock{columns - c});
      }
    }
  });
}

// Rows split into equal groups: 16 is 8 + 8, not 14 + 2.
template <typename Math>
void multiply_rows(PanelProduct<typename Math::Value> product, int64_t rows) {
  const int64_t groups = (rows + Math::kMaxRows - 1) / Math::kMaxRows;
  const auto* x = product.x;
  float* sums = product.sums;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t m = rows * g / groups;
    product.x = x + m * x_stride_of<Math>();
    product.sums = sums + m * kPanelColumns;
    Math::multiply(rows * (g + 1) / groups - m, product);
  }
}

template <typename Math>
void run_panel_tile(const LinearTile& tile) {
  using Value = typename Math::Value;
  auto* x = reinterpret_cast<Value*>(tile.scratch);
  Value* w = x + kFloatPanelTileM * x_stride_of<Math>();
  auto* sums = reinterpret_cast<float*>(w + Math::kBlockK * kPanelColumns);
  const int64_t rows = tile.m_end - tile.m_begin;
  const float* w_scale = Math::output_scale(tile);
  for (int64_t k = 0; k < tile.k; k += Math::kBlockK) {
    const int64_t depth = tile.k - k < Math::kBlockK ? tile.k - k : Math::kBlockK;
    const bool last = k + depth == tile.k;
    for (int64_t m = 0; m < rows; ++m) {
      Math::convert_x(tile, tile.m_begin + m, k, depth, x + m * x_stride_of<Math>());
    }
    float* panel_sums = sums;
    for (int64_t n = tile.n_begin; n < tile.n_end; n += kPanelColumns) {
      alignas(64) float run_scale[Math::kMaxRuns * kPanelColumns];  // read as whole registers
      const Value* panel = Math::expand(tile, n, k, depth, w);
      const Runs runs = Math::run_scales(tile, n, k, depth, run_scale);
      multiply_rows<Math>({.x = x,
                           .w = panel,
                           .depth = panel_k(depth),
                           .sums = panel_sums,
                           .sums_are = k == 0 ? Sums::kFirst : Sums::kContinued,
                           .run_scale = runs.k == 0 ? nullptr : run_scale,
                           .runs = runs.k == 0 ? Runs{panel_k(depth), true} : runs},
                          rows);
      if (last) write_panel(tile, w_scale, n, panel_sums);
      panel_sums += kFloatPanelTileM * kPanelColumns;
    }
  }
}

}  // namespace
}  // namespace mezzotint::MZ_ISA

#endif  // MEZZOTINT_KERNELS_PANEL_TILES_INL_
