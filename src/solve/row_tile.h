// A part of a matrix t:[n,k] that is made, or changed, a few rows at a time.
#pragma once

#include <cstdint>

namespace mezzotint {

// Rows from `first` and columns from `column` on: row i stands at data + i * stride.
struct RowTile {
  int64_t first = 0, rows = 0;
  int64_t column = 0, columns = 0;
  float* data = nullptr;
  int64_t stride = 0;
};

constexpr int64_t kSketchRows = 48;  // of a tile: rows of 13,824 floats are 2.6 MiB, for the L3
// Of a part: MX blocks, and of 48 rows 144 KiB for the L2.
constexpr int64_t kSketchColumns = 768;

}  // namespace mezzotint
