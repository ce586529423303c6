// A matrix t:[n,k] that is made a few rows at a time, times a few columns, there and back:
// left = t x and right = t^T left, in one pass. No more of t than a tile of rows per thread exists.
//
//   const Sketch s = sketch_of({.n = n, .k = k, .fill = fill}, x, ctx);
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <functional>

#include "mezzotint/context.h"

namespace mezzotint {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using DoubleMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Where rows [first, first + rows) of t are wanted: row i at data + i * stride.
struct RowTile {
  int64_t first = 0;
  int64_t rows = 0;
  float* data = nullptr;
  int64_t stride = 0;
};

constexpr int64_t kSketchRows = 48;  // of a tile: rows of 13,824 floats are 2.6 MiB, for the L3

struct RowSource {
  int64_t n = 0, k = 0;
  int64_t rows_at_once = kSketchRows;  // n: all of t in one tile, on one thread
  // Several threads call it at once, every tile once.
  std::function<void(const RowTile&)> fill{};

  int64_t tiles() const { return (n + rows_at_once - 1) / rows_at_once; }
};

struct Sketch {
  FloatMatrix left;    // t x:[n,l]
  DoubleMatrix right;  // t^T left:[k,l]
};

// x:[k,l]. Sums are taken in one order, whatever the number of threads.
Sketch sketch_of(const RowSource& t, const FloatMatrix& x, const ExecContext& ctx);

// What it takes beside t and x: the sums of parts and a tile per thread.
int64_t sketch_bytes(int64_t n, int64_t k, int64_t columns, int64_t rows_at_once, int threads);

// Calls fill for every tile and multiplies nothing.
void for_each_tile(const RowSource& t, const ExecContext& ctx);

}  // namespace mezzotint
