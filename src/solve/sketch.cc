#include "solve/sketch.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_product.h"

namespace mezzotint {
namespace {

// Columns of t at once, a multiple of the 6 rows of add_product's tile: of 48 rows 189 KiB, and of
// x and right, 32 columns wide, 126 KiB each, which the L2 holds together.
constexpr int64_t kDepth = 1008;
// Parts of n that have a sum of their own, whatever the threads are: of 13,824 x 32 floats 27 MiB.
constexpr int64_t kMostParts = 16;
constexpr int64_t kLine = 16;  // floats

// An odd number of lines: rows of a tile stand in different sets of the caches.
int64_t stride_of(int64_t k) { return ((k + kLine - 1) / kLine | 1) * kLine; }

int64_t rows_of_part(const RowSource& t) {
  const int64_t tiles = (t.tiles() + kMostParts - 1) / kMostParts;
  return tiles * t.rows_at_once;
}

// fn(tile) for the tiles of rows [begin, end), one after another in the same memory.
template <typename Fn>
void fill_tiles(const RowSource& t, int64_t begin, int64_t end, const Fn& fn) {
  const int64_t stride = stride_of(t.k);
  std::vector<float> data(static_cast<size_t>(std::min(t.rows_at_once, end - begin) * stride));
  for (int64_t first = begin; first < end; first += t.rows_at_once) {
    const RowTile tile = {.first = first,
                          .rows = std::min(t.rows_at_once, end - first),
                          .data = data.data(),
                          .stride = stride};
    t.fill(tile);
    fn(tile);
  }
}

// left += tile x, right += tile^T left
void multiply(const RowTile& tile, const FloatMatrix& x, float* left, FloatMatrix& right) {
  const AddProductFn add = add_product(active_isa());
  const int64_t k = x.rows(), l = x.cols();
  for (int64_t first = 0; first < k; first += kDepth) {
    add({.a = tile.data + first,
         .a_row = tile.stride,
         .a_step = 1,
         .b = x.data() + first * l,
         .b_step = l,
         .c = left,
         .c_row = l,
         .rows = tile.rows,
         .steps = std::min(kDepth, k - first),
         .columns = l});
  }
  for (int64_t first = 0; first < k; first += kDepth) {
    add({.a = tile.data + first,
         .a_row = 1,
         .a_step = tile.stride,
         .b = left,
         .b_step = l,
         .c = right.data() + first * l,
         .c_row = l,
         .rows = std::min(kDepth, k - first),
         .steps = tile.rows,
         .columns = l});
  }
}

}  // namespace

Sketch sketch_of(const RowSource& t, const FloatMatrix& x, const ExecContext& ctx) {
  MZ_CHECK(x.rows() == t.k);
  const int64_t l = x.cols(), rows = rows_of_part(t);
  Sketch sketch = {.left = FloatMatrix::Zero(t.n, l), .right = DoubleMatrix::Zero(t.k, l)};
  std::vector<FloatMatrix> parts(static_cast<size_t>((t.n + rows - 1) / rows));
  parallel_for(ctx, t.n, rows, [&](int64_t begin, int64_t end) {
    FloatMatrix& right = parts[static_cast<size_t>(begin / rows)];
    right = FloatMatrix::Zero(t.k, l);
    fill_tiles(t, begin, end, [&](const RowTile& tile) {
      multiply(tile, x, sketch.left.data() + tile.first * l, right);
    });
  });
  for (const FloatMatrix& part : parts) sketch.right += part.cast<double>();
  return sketch;
}

int64_t sketch_bytes(int64_t n, int64_t k, int64_t columns, int64_t rows_at_once, int threads) {
  const int64_t parts = std::min(kMostParts, (n + rows_at_once - 1) / rows_at_once);
  const int64_t floats = parts * k * columns + threads * rows_at_once * stride_of(k);
  return floats * static_cast<int64_t>(sizeof(float));
}

void for_each_tile(const RowSource& t, const ExecContext& ctx) {
  parallel_for(ctx, t.n, rows_of_part(t), [&](int64_t begin, int64_t end) {
    fill_tiles(t, begin, end, [](const RowTile&) {});
  });
}

}  // namespace mezzotint
