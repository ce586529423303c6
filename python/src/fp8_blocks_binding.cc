// _core.fp8_blocks: e4m3 codes and scales of tiles, as the FP8 attention quantizes its inputs.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bindings.h"
#include "numerics/fp8_block.h"
#include "numerics/rounding.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// Tiles of matrices [rows,columns], one after the other.
struct Tiling {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t tile_rows = 0;
  int64_t tile_columns = 0;
};

float tile_scale(const float* x, const Tiling& tiling, int64_t rows, int64_t columns) {
  float amax = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const float magnitude = std::fabs(x[r * tiling.columns + c]);
      if (!(magnitude <= amax)) amax = magnitude;  // NaN stays
      if (is_nan(amax)) return fp8_block_scale(amax);
    }
  }
  return fp8_block_scale(amax);
}

void quantize_matrix(const float* x, uint8_t* codes, float*& scale, const Tiling& tiling) {
  for (int64_t row = 0; row < tiling.rows; row += tiling.tile_rows) {
    for (int64_t column = 0; column < tiling.columns; column += tiling.tile_columns) {
      const int64_t rows = std::min(tiling.tile_rows, tiling.rows - row);
      const int64_t columns = std::min(tiling.tile_columns, tiling.columns - column);
      const int64_t first = row * tiling.columns + column;
      *scale = tile_scale(x + first, tiling, rows, columns);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          const int64_t i = first + r * tiling.columns + c;
          codes[i] = fp8_block_code(x[i], *scale);
        }
      }
      ++scale;
    }
  }
}

}  // namespace

void bind_fp8_blocks(nb::module_& module) {
  module.def(
      "fp8_blocks",
      [](uintptr_t x, uintptr_t codes, uintptr_t scales, int64_t matrices, int64_t rows,
         int64_t columns, int64_t tile_rows, int64_t tile_columns) {
        const nb::gil_scoped_release no_gil;
        const Tiling tiling = {rows, columns, tile_rows, tile_columns};
        auto* scale = reinterpret_cast<float*>(scales);
        for (int64_t i = 0; i < matrices; ++i) {
          const int64_t first = i * rows * columns;
          quantize_matrix(reinterpret_cast<const float*>(x) + first,
                          reinterpret_cast<uint8_t*>(codes) + first, scale, tiling);
        }
      },
      "x"_a, "codes"_a, "scales"_a, "matrices"_a, "rows"_a, "columns"_a, "tile_rows"_a,
      "tile_columns"_a);
}

}  // namespace mezzotint
