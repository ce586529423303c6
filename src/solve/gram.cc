#include "solve/gram.h"

#include <cblas.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kTile = 256;    // columns: a tile of f32 sums is 256 KiB, half of an L2
constexpr int64_t kPanel = 1024;  // rows that are widened at once

struct Tile {
  int64_t row;
  int64_t col;
};

std::vector<Tile> lower_tiles(int64_t k) {
  std::vector<Tile> tiles;
  for (int64_t row = 0; row < k; row += kTile) {
    for (int64_t col = 0; col <= row; col += kTile) tiles.push_back({row, col});
  }
  return tiles;
}

}  // namespace

void add_gram(std::span<const float> x, const Tensor& gram, const ExecContext& ctx) {
  const int64_t k = gram.dim(0);
  MZ_CHECK(gram.shape() == (Shape{k, k}) && static_cast<int64_t>(x.size()) % k == 0);
  const auto m = static_cast<int>(static_cast<int64_t>(x.size()) / k);
  if (m == 0) return;
  auto* sums = gram.mutable_data<float>();
  const std::vector<Tile> tiles = lower_tiles(k);
  const auto width = [k](int64_t first) { return static_cast<int>(std::min(kTile, k - first)); };
  parallel_for(ctx, static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tile tile = tiles[static_cast<size_t>(i)];
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, width(tile.row), width(tile.col), m,
                  1.0f, x.data() + tile.row, static_cast<int>(k), x.data() + tile.col,
                  static_cast<int>(k), 1.0f, sums + tile.row * k + tile.col, static_cast<int>(k));
    }
  });
}

void mirror_gram(const Tensor& gram) {
  const int64_t k = gram.dim(0);
  auto* g = gram.mutable_data<float>();
  constexpr int64_t kBlock = 64;  // two blocks of 16 KiB stay in an L1 while one is transposed
  for (int64_t row = 0; row < k; row += kBlock) {
    for (int64_t col = 0; col <= row; col += kBlock) {
      for (int64_t i = row; i < std::min(row + kBlock, k); ++i) {
        for (int64_t j = col; j < std::min(col + kBlock, i); ++j) g[j * k + i] = g[i * k + j];
      }
    }
  }
}

Tensor gram_of(const Tensor& rows, const ExecContext& ctx) {
  const int64_t k = rows.dim(1);
  Tensor gram = Tensor::allocate(DType::kF32, {k, k});
  std::memset(gram.buffer().mutable_data(), 0, static_cast<size_t>(gram.byte_size()));
  std::vector<float> panel;
  for (int64_t first = 0; first < rows.dim(0); first += kPanel) {
    panel.resize(static_cast<size_t>(std::min(kPanel, rows.dim(0) - first) * k));
    widen_range(rows, first * k, panel);
    add_gram(panel, gram, ctx);
  }
  mirror_gram(gram);
  return gram;
}

}  // namespace mezzotint
