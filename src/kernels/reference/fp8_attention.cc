#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/rows.h"
#include "numerics/e4m3.h"

namespace mezzotint::reference {
namespace {

double dot_of_codes(const uint8_t* a, const uint8_t* b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; ++d) {
    sum += static_cast<double>(e4m3_to_float(a[d])) * static_cast<double>(e4m3_to_float(b[d]));
  }
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

// The tile of keys [first, first + keys), keys <= kFp8KeyBlock.
void add_tile(const Fp8AttentionTile& tile, const uint8_t* q, int64_t first, int64_t keys, Row& row,
              double* scores) {
  const int64_t block = first / kFp8KeyBlock;
  const double factor = static_cast<double>(tile.scale) * tile.q_scale * tile.k_scale[block];
  double new_max = row.m;
  for (int64_t j = 0; j < keys; ++j) {
    scores[j] = factor * dot_of_codes(q, tile.k + (first + j) * tile.dim, tile.dim);
    new_max = std::max(scores[j], new_max);
  }
  const double rescale = std::exp(row.m - new_max);
  row.m = new_max;
  row.l *= rescale;
  for (int64_t d = 0; d < tile.dim; ++d) row.o[d] *= rescale;
  for (int64_t j = 0; j < keys; ++j) {
    const double p = std::exp(scores[j] - new_max);
    row.l += p;  // not quantized
    const double p8 = round_to_e4m3(p * tile.p_scale) * static_cast<double>(tile.v_scale[block]);
    const uint8_t* v = tile.v + (first + j) * tile.dim;
    for (int64_t d = 0; d < tile.dim; ++d) row.o[d] += p8 * e4m3_to_float(v[d]);
  }
}

}  // namespace

int64_t fp8_attention_scratch_bytes(int64_t dim) {
  return (dim + kFp8KeyBlock) * static_cast<int64_t>(sizeof(double));
}

void fp8_attention(const Fp8AttentionTile& tile) noexcept {
  auto* const scores = reinterpret_cast<double*>(tile.scratch);
  for (int64_t i = 0; i < tile.q_rows; ++i) {
    Row row;
    row.o = scores + kFp8KeyBlock;
    std::fill_n(row.o, tile.dim, 0.0);
    for (int64_t first = 0; first < tile.keys; first += kFp8KeyBlock) {
      add_tile(tile, tile.q + i * tile.dim, first, std::min(kFp8KeyBlock, tile.keys - first), row,
               scores);
    }
    const double divisor = tile.keys == 0 ? 1.0 : row.l * tile.p_scale;
    for (int64_t d = 0; d < tile.dim; ++d) {
      tile.out[i * tile.dim + d] = static_cast<float>(row.o[d] / divisor);
    }
  }
}

}  // namespace mezzotint::reference
