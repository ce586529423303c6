// Codes times codes by sgemm: exact as long as no sum leaves the integers that floats hold, and
// therefore equal to the integer rows, whatever order OpenBLAS adds in. For processors whose
// integer instructions no row knows.

#include <cblas.h>

#include <algorithm>

#include "kernels/blas/rows.h"
#include "kernels/float_ops.h"
#include "kernels/weight_decode.h"
#include "numerics/float_type.h"
#include "numerics/int8.h"

namespace mezzotint::blas {
namespace {

// 127 * 128 * 1024 < 2^24; the sums of the blocks are added as integers.
constexpr int64_t kExactK = 1024;
static_assert(127 * 128 * kExactK < int64_t{1} << 24);

struct TileScratch {
  float* x;      // [kTileM][kExactK]
  float* w;      // [kTileN][kExactK]
  float* sums;   // [kTileM][kTileN] of one block of k
  int32_t* acc;  // [kTileM][kTileN]
};

TileScratch split_scratch(std::byte* scratch) {
  auto* x = reinterpret_cast<float*>(scratch);
  float* w = x + kTileM * kExactK;
  float* sums = w + kTileN * kExactK;
  return {x, w, sums, reinterpret_cast<int32_t*>(sums + kTileM * kTileN)};
}

// Columns [k, k + depth) of the tile's rows of x as floats.
void widen_x(const FloatOps& ops, const LinearTile& tile, int64_t k, int64_t depth, float* out) {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    ops.widen_int8(tile.xq + m * tile.xq_stride + k, out + (m - tile.m_begin) * depth, depth);
  }
}

// The same of its rows of w: codes without scales.
void widen_w(const FloatOps& ops, const LinearTile& tile, int64_t k, int64_t depth, float* out) {
  WeightView w = weight_view(tile);
  w.scale = nullptr;
  for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
    float* row = out + (n - tile.n_begin) * depth;
    if (tile.w_element == Element::kInt8) {
      ops.widen_int8(reinterpret_cast<const int8_t*>(tile.w) + n * tile.k + k, row, depth);
    } else {
      decode_weights(w, n, k, k + depth, row);
    }
  }
}

void write_outputs(const LinearTile& tile, const int32_t* acc) {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
      const float bias = tile.bias == nullptr ? 0.0f : tile.bias[n];
      const int32_t start = tile.acc_bias == nullptr ? 0 : tile.acc_bias[n];
      const int32_t sum = acc[(m - tile.m_begin) * kTileN + n - tile.n_begin] + start;
      store_float(int8_output(sum, tile.w_scale[n], tile.x_scale[m], bias), tile.y, tile.y_type,
                  m * tile.y_stride + n);
    }
  }
}

}  // namespace

void integer_linear(const LinearTile& tile) noexcept {
  const FloatOps& ops = float_ops(Isa::kPortable);
  const TileScratch s = split_scratch(tile.scratch);
  const int64_t rows = tile.m_end - tile.m_begin, columns = tile.n_end - tile.n_begin;
  std::fill_n(s.acc, rows * kTileN, 0);
  for (int64_t k = 0; k < tile.k; k += kExactK) {
    const int64_t depth = std::min(kExactK, tile.k - k);
    widen_x(ops, tile, k, depth, s.x);
    widen_w(ops, tile, k, depth, s.w);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows),
                static_cast<int>(columns), static_cast<int>(depth), 1.0f, s.x,
                static_cast<int>(depth), s.w, static_cast<int>(depth), 0.0f, s.sums,
                static_cast<int>(kTileN));
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t n = 0; n < columns; ++n) {
        s.acc[m * kTileN + n] += static_cast<int32_t>(s.sums[m * kTileN + n]);
      }
    }
  }
  write_outputs(tile, s.acc);
}

int64_t integer_scratch_bytes(int64_t) {
  constexpr int64_t kWordBytes = 4;
  return ((kTileM + kTileN) * kExactK + 2 * kTileM * kTileN) * kWordBytes;
}

}  // namespace mezzotint::blas
