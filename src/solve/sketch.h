// A matrix t:[n,k] that is made a few rows at a time, times a few columns, there and back:
// left = t x and right = t^T left, in one pass. No more of t than a tile of rows per thread exists.
//
//   const Sketch s = sketch_of({.n = n, .k = k, .fill = fill}, x, FloatMatrix::Zero(n, l), ctx);
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <functional>

#include "mezzotint/context.h"
#include "solve/row_tile.h"

namespace mezzotint {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using DoubleMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct RowSource {
  int64_t n = 0, k = 0;
  int64_t rows_at_once = kSketchRows;        // n: all of t in one tile, on one thread
  int64_t columns_at_once = kSketchColumns;  // k: whole rows
  // Several threads call it at once, every tile once and its parts from left to right.
  std::function<void(const RowTile&)> fill{};

  int64_t tiles() const { return (n + rows_at_once - 1) / rows_at_once; }
};

struct Sketch {
  FloatMatrix left;    // start + t x:[n,l]
  DoubleMatrix right;  // t^T left:[k,l]
};

// x:[k,l], start:[n,l]. Sums are taken in one order, whatever the number of threads.
Sketch sketch_of(const RowSource& t, const FloatMatrix& x, FloatMatrix start,
                 const ExecContext& ctx);

// What sketch_of takes beside t and x: the sums of parts and a tile per thread.
int64_t sketch_bytes(int64_t n, int64_t k, int64_t columns, int64_t rows_at_once, int threads);

// Calls fill for every tile and multiplies nothing.
void for_each_tile(const RowSource& t, const ExecContext& ctx);

}  // namespace mezzotint
