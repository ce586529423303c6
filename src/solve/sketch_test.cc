#include "solve/sketch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace mezzotint {
namespace {

constexpr double kEps = 0x1p-24;  // half an ulp of 1

FloatMatrix random_matrix(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  FloatMatrix m(rows, cols);
  for (float* v = m.data(); v != m.data() + m.size(); ++v) *v = normal(random);
  return m;
}

RowSource rows_of(const FloatMatrix& m) {
  return {.n = m.rows(), .k = m.cols(), .fill = [&m](const RowTile& tile) {
            for (int64_t i = 0; i < tile.rows; ++i) {
              for (int64_t j = 0; j < tile.columns; ++j) {
                tile.data[i * tile.stride + j] = m(tile.first + i, tile.column + j);
              }
            }
          }};
}

// Of every element: the error over the bound (n + k) eps sum |a b|. Below 1 is right.
double worst(const DoubleMatrix& got, const FloatMatrix& a, const DoubleMatrix& b) {
  const DoubleMatrix wide = a.cast<double>();
  const DoubleMatrix want = wide * b, magnitude = wide.cwiseAbs() * b.cwiseAbs();
  const double steps = static_cast<double>(a.rows() + a.cols());
  return ((got - want).cwiseAbs().array() / (steps * kEps * magnitude.array())).maxCoeff();
}

Sketch sketch(const RowSource& rows, const FloatMatrix& x, int threads) {
  return sketch_of(rows, x, FloatMatrix::Zero(rows.n, x.cols()), ExecContext({.threads = threads}));
}

TEST(SketchOf, IsTheProductThereAndBack) {
  int checked = 0;
  for (const int64_t n : {1, 47, 48, 49, 1000}) {
    for (const int64_t k : {5, 64, 2100}) {
      const FloatMatrix m = random_matrix(n, k, 1), x = random_matrix(k, 16, 2);
      const Sketch s = sketch(rows_of(m), x, 2);
      ASSERT_LT(worst(s.left.cast<double>(), m, x.cast<double>()), 1) << n << " " << k;
      const FloatMatrix turned = m.transpose();
      ASSERT_LT(worst(s.right, turned, s.left.cast<double>()), 1) << n << " " << k;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 15);
}

TEST(SketchOf, CheckSeesAMissingRow) {
  const FloatMatrix m = random_matrix(100, 64, 1), x = random_matrix(64, 16, 2);
  RowSource rows = rows_of(m);
  rows.fill = [&m](const RowTile& tile) {
    rows_of(m).fill(tile);
    if (tile.first == 48 && tile.column == 0) tile.data[tile.stride] = 0;  // one value
  };
  const Sketch s = sketch(rows, x, 1);
  EXPECT_GT(worst(s.left.cast<double>(), m, x.cast<double>()), 100);
}

TEST(SketchOf, IsTheSameForAnyNumberOfThreads) {
  const FloatMatrix m = random_matrix(2000, 130, 1), x = random_matrix(130, 32, 2);
  const Sketch one = sketch(rows_of(m), x, 1);
  const Sketch three = sketch(rows_of(m), x, 3);
  EXPECT_EQ(one.left, three.left);
  EXPECT_EQ(one.right, three.right);
}

TEST(SketchOf, AddsTheProductToTheStart) {
  const FloatMatrix m = random_matrix(100, 2100, 1), x = random_matrix(2100, 16, 2);
  const FloatMatrix start = random_matrix(100, 16, 3);
  const Sketch s = sketch_of(rows_of(m), x, start, ExecContext({.threads = 2}));
  const FloatMatrix there = sketch(rows_of(m), x, 1).left;
  EXPECT_LT((s.left - start - there).cwiseAbs().maxCoeff(), 1e-4);
  EXPECT_GT((s.left - there).cwiseAbs().maxCoeff(), 1) << "the start is there";
  const FloatMatrix turned = m.transpose();
  EXPECT_LT(worst(s.right, turned, s.left.cast<double>()), 1);
}

TEST(SketchOf, PartsAreAskedForFromLeftToRight) {
  const FloatMatrix m = random_matrix(50, 2 * kSketchColumns + 1, 1),
                    x = random_matrix(m.cols(), 16, 2);
  RowSource rows = rows_of(m);
  std::vector<int64_t> parts;
  rows.fill = [&](const RowTile& tile) {
    rows_of(m).fill(tile);
    parts.insert(parts.end(), {tile.first, tile.column, tile.columns});
  };
  sketch(rows, x, 1);
  constexpr int64_t c = kSketchColumns, r = kSketchRows;
  EXPECT_EQ(parts,
            (std::vector<int64_t>{0, 0, c, 0, c, c, 0, 2 * c, 1, r, 0, c, r, c, c, r, 2 * c, 1}));
}

TEST(SketchOf, AllRowsAtOnceAreOneTile) {
  const FloatMatrix m = random_matrix(500, 70, 1), x = random_matrix(70, 16, 2);
  RowSource rows = rows_of(m);
  rows.rows_at_once = rows.n;
  rows.columns_at_once = rows.k;
  int64_t tiles = 0;
  rows.fill = [&](const RowTile& tile) {
    EXPECT_EQ(tile.rows, 500);
    rows_of(m).fill(tile);
    ++tiles;
  };
  const Sketch s = sketch(rows, x, 2);
  EXPECT_LT(worst(s.left.cast<double>(), m, x.cast<double>()), 1);
  for_each_tile(rows, ExecContext({.threads = 2}));
  EXPECT_EQ(tiles, 2);
}

}  // namespace
}  // namespace mezzotint
