#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/rows.h"
#include "numerics/e4m3.h"
#include "numerics/float_type.h"
#include "numerics/fp8_block.h"

namespace mezzotint::reference {
namespace {

// [rows,dim] floats, whatever they are of.
void pack(const AttentionPack& pack) noexcept {
  auto* const packed = reinterpret_cast<float*>(pack.packed);
  for (int64_t i = 0; i < pack.rows; ++i) {
    for (int64_t d = 0; d < pack.dim; ++d) {
      const float x = load_float(pack.x, pack.x_type, i * pack.x_stride + d);
      packed[i * pack.dim + d] =
          pack.form == AttentionForm::kFloat ? x : e4m3_to_float(fp8_block_code(x, pack.scale));
    }
  }
}

constexpr int64_t kFloat = sizeof(float);
int64_t query_bytes(int64_t dim) noexcept { return kQueryBlock * dim * kFloat; }
int64_t key_bytes(int64_t dim) noexcept { return kKeyBlock * dim * kFloat; }
int64_t scratch_bytes(int64_t dim) noexcept {
  return (dim + kKeyBlock) * static_cast<int64_t>(sizeof(double));
}

double dot(const float* a, const float* b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
  return sum;
}

float round_to_e4m3(double p) {
  return e4m3_to_float(e4m3_from_float(static_cast<float>(p), Rounding::kHalfEven));
}

// Running state of one query row; the letters are those of docs/numerics.md.
struct Row {
  double m = -std::numeric_limits<double>::infinity();
  double l = 0;
  double* o = nullptr;  // [dim]
};

// A block of `keys` keys.
void add_block(const AttentionTile& tile, const float* q, int64_t block, int64_t keys, Row& row,
               double* scores) {
  const bool fp8 = tile.form == AttentionForm::kFp8;
  const auto* const k = reinterpret_cast<const float*>(tile.k + block * key_bytes(tile.dim));
  const auto* const v = reinterpret_cast<const float*>(tile.v + block * key_bytes(tile.dim));
  const double factor =
      static_cast<double>(tile.scale) * (fp8 ? tile.q_scale * tile.k_scale[block] : 1.0f);
  double new_max = row.m;
  for (int64_t j = 0; j < keys; ++j) {
    scores[j] = factor * dot(q, k + j * tile.dim, tile.dim);
    new_max = std::max(scores[j], new_max);
  }
  // Only -inf so far: any finite number in place of the maximum leaves the row without weight.
  const double shift = std::isinf(new_max) && new_max < 0 ? 0.0 : new_max;
  const double rescale = std::exp(row.m - shift);
  row.m = new_max;
  row.l *= rescale;
  for (int64_t d = 0; d < tile.dim; ++d) row.o[d] *= rescale;
  for (int64_t j = 0; j < keys; ++j) {
    const double p = std::exp(scores[j] - shift);
    row.l += p;  // not quantized
    const double weight =
        fp8 ? round_to_e4m3(p * tile.p_scale) * static_cast<double>(tile.v_scale[block]) : p;
    for (int64_t d = 0; d < tile.dim; ++d) row.o[d] += weight * v[j * tile.dim + d];
  }
}

void run(const AttentionTile& tile) noexcept {
  auto* const scores = reinterpret_cast<double*>(tile.scratch);
  for (int64_t i = 0; i < tile.q_rows; ++i) {
    Row row;
    row.o = scores + kKeyBlock;
    std::fill_n(row.o, tile.dim, 0.0);
    const float* const q = reinterpret_cast<const float*>(tile.q) + i * tile.dim;
    for (int64_t first = 0; first < tile.keys; first += kKeyBlock) {
      add_block(tile, q, first / kKeyBlock, std::min(kKeyBlock, tile.keys - first), row, scores);
    }
    const double divisor = row.l == 0 ? 1.0 : row.l * tile.p_scale;
    for (int64_t d = 0; d < tile.dim; ++d) {
      tile.out[i * tile.dim + d] = static_cast<float>(row.o[d] / divisor);
    }
  }
}

}  // namespace

constinit const AttentionOps kAttentionOps = {query_bytes, key_bytes, scratch_bytes, pack, pack,
                                              pack,        run};

}  // namespace mezzotint::reference
