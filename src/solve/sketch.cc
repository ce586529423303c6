#include "solve/sketch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_product.h"

namespace mezzotint {
namespace {

// Parts of n that have a sum of their own, whatever the threads are: of 13,824 x 32 floats 27 MiB.
constexpr int64_t kMostParts = 16;
constexpr int64_t kLine = 16;  // floats
// Of t at once, for the L1: 384 rows of 16 columns of x, 24 KiB, of which all rows of a tile read;
// 48 columns of 48 rows, 9 KiB, that are read for every 16 columns of left (768 at once: 62 and 51
// instead of 76 and 77 GFLOPS, 32 columns, Zen 3). Multiples of the 6 rows of add_product's tile.
constexpr int64_t kColumnsThere = 384;
constexpr int64_t kColumnsBack = 48;

// An odd number of lines: rows of a tile stand in different sets of the caches.
int64_t stride_of(int64_t k) { return ((k + kLine - 1) / kLine | 1) * kLine; }

int64_t rows_of_part(const RowSource& t) {
  const int64_t tiles = (t.tiles() + kMostParts - 1) / kMostParts;
  return tiles * t.rows_at_once;
}

// For the tiles of rows [begin, end), one after another in the same memory: on_part(part) when a
// part is filled, then on_tile(tile).
template <typename OnPart, typename OnTile>
void fill_tiles(const RowSource& t, int64_t begin, int64_t end, const OnPart& on_part,
                const OnTile& on_tile) {
  const int64_t stride = stride_of(t.k);
  std::vector<float> data(static_cast<size_t>(std::min(t.rows_at_once, end - begin) * stride));
  for (int64_t first = begin; first < end; first += t.rows_at_once) {
    const RowTile tile = {.first = first,
                          .rows = std::min(t.rows_at_once, end - first),
                          .columns = t.k,
                          .data = data.data(),
                          .stride = stride};
    for (int64_t column = 0; column < t.k; column += t.columns_at_once) {
      RowTile part = tile;
      part.column = column;
      part.columns = std::min(t.columns_at_once, t.k - column);
      part.data += column;
      t.fill(part);
      on_part(part);
    }
    on_tile(tile);
  }
}

// fn(first, columns), `most` at once.
template <typename Fn>
void for_columns(int64_t count, int64_t most, const Fn& fn) {
  for (int64_t first = 0; first < count; first += most) fn(first, std::min(most, count - first));
}

// left += part x
void multiply_there(const RowTile& part, const FloatMatrix& x, float* left) {
  const AddProductFn add = add_product(active_isa());
  const int64_t l = x.cols();
  for_columns(part.columns, kColumnsThere, [&](int64_t first, int64_t columns) {
    add({.a = part.data + first,
         .a_row = part.stride,
         .a_step = 1,
         .b = x.data() + (part.column + first) * l,
         .b_step = l,
         .c = left,
         .c_row = l,
         .rows = part.rows,
         .steps = columns,
         .columns = l});
  });
}

// right += tile^T left
void multiply_back(const RowTile& tile, const float* left, FloatMatrix& right) {
  const AddProductFn add = add_product(active_isa());
  const int64_t l = right.cols();
  for_columns(tile.columns, kColumnsBack, [&](int64_t first, int64_t columns) {
    add({.a = tile.data + first,
         .a_row = 1,
         .a_step = tile.stride,
         .b = left,
         .b_step = l,
         .c = right.data() + first * l,
         .c_row = l,
         .rows = columns,
         .steps = tile.rows,
         .columns = l});
  });
}

}  // namespace

Sketch sketch_of(const RowSource& t, const FloatMatrix& x, FloatMatrix start,
                 const ExecContext& ctx) {
  const int64_t l = x.cols(), rows = rows_of_part(t);
  MZ_CHECK(x.rows() == t.k && start.rows() == t.n && start.cols() == l);
  Sketch sketch = {.left = std::move(start), .right = DoubleMatrix::Zero(t.k, l)};
  std::vector<FloatMatrix> parts(static_cast<size_t>((t.n + rows - 1) / rows));
  parallel_for(ctx, t.n, rows, [&](int64_t begin, int64_t end) {
    FloatMatrix& right = parts[static_cast<size_t>(begin / rows)];
    right = FloatMatrix::Zero(t.k, l);
    const auto left = [&](const RowTile& tile) { return sketch.left.data() + tile.first * l; };
    fill_tiles(
        t, begin, end, [&](const RowTile& part) { multiply_there(part, x, left(part)); },
        [&](const RowTile& tile) { multiply_back(tile, left(tile), right); });
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
    fill_tiles(t, begin, end, [](const RowTile&) {}, [](const RowTile&) {});
  });
}

}  // namespace mezzotint
