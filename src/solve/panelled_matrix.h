// A matrix m:[r,k] of few rows in panels of 16 columns, for products a m that are made a part at a
// time. Rows of a matrix lie in r pages, a panel of 32 rows in one (59 instead of 31 GFLOPS, Zen
// 3).
//
//   const PanelledMatrix down(branch.down);
//   down.add_product(up_rows, part);   // part += up_rows down, of the part's columns
#pragma once

#include <cstdint>
#include <vector>

#include "mezzotint/tensor.h"
#include "solve/row_tile.h"

namespace mezzotint {

// Threads may share one.
class PanelledMatrix {
 public:
  PanelledMatrix() = default;
  explicit PanelledMatrix(const Tensor& m);  // of any float dtype

  // part += a m on this thread, a:[part.rows,r]. The part's columns are those of m; it begins at a
  // multiple of 16. Every sum runs over r in order.
  void add_product(const float* a, const RowTile& part) const;

 private:
  int64_t r_ = 0;
  std::vector<float> panels_;  // [panels][r][16]
};

}  // namespace mezzotint
