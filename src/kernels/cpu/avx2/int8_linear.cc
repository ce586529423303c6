// kInt8Rows weights for processors without VNNI: codes widened to int16, vpmaddwd, int32 sums.
// (vpmaddubsw would need no widening, but saturates at 2 * 255 * 127.) Both operands are widened
// once per tile into scratch, so that the loop over k is loads, products and sums only.
//
// A tile of 2 rows x 4 columns: 8 accumulators, 2 registers of x, 1 of w, 1 product.

#include <immintrin.h>

#include <cstdint>

#include "kernels/int8_rows.h"
#include "numerics/float_type.h"
#include "numerics/int8.h"

namespace mezzotint::avx2 {
namespace {

constexpr int kRows = 2;
constexpr int kColumns = 4;
constexpr int64_t kStep = 16;  // k of one vpmaddwd
constexpr int64_t kInt16Bytes = 2;

constexpr int64_t widened_k(int64_t k) { return (k + kStep - 1) / kStep * kStep; }

// q[0, k) as int16, zeros up to widened_k(k).
void widen_row(const int8_t* q, int64_t k, int16_t* out) {
  int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), _mm256_cvtepi8_epi16(codes));
  }
  for (; i < widened_k(k); ++i) out[i] = i < k ? q[i] : static_cast<int16_t>(0);
}

// Rows [begin, begin + count) of a matrix of codes; zeros from `end` on.
void widen_rows(const int8_t* q, int64_t stride, int64_t k, int64_t begin, int64_t end,
                int64_t count, int16_t* out) {
  const int64_t depth = widened_k(k);
  for (int64_t i = 0; i < count; ++i) {
    if (begin + i < end) {
      widen_row(q + (begin + i) * stride, k, out + i * depth);
    } else {
      __builtin_memset(out + i * depth, 0, static_cast<size_t>(depth * kInt16Bytes));
    }
  }
}

[[gnu::always_inline]] inline __m256i load16(const int16_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

// The sums of the lanes of four accumulators.
[[gnu::always_inline]] inline __m128i sum_lanes(const __m256i (&acc)[kColumns]) {
  const __m256i s01 = _mm256_hadd_epi32(acc[0], acc[1]);
  const __m256i s23 = _mm256_hadd_epi32(acc[2], acc[3]);
  const __m256i s = _mm256_hadd_epi32(s01, s23);
  return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

// acc[i][j] = sum over k of x[i] w[j].
[[gnu::noinline]] void int8_block_hot(const int16_t* x, const int16_t* w, int64_t depth,
                                      int32_t (&sums)[kRows][kColumns]) noexcept {
  __m256i acc[kRows][kColumns];
#pragma GCC unroll 2
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) acc[i][j] = _mm256_setzero_si256();
  }
  for (int64_t k = 0; k < depth; k += kStep) {
    const __m256i x0 = load16(x + k);
    const __m256i x1 = load16(x + depth + k);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const __m256i column = load16(w + j * depth + k);
      acc[0][j] = _mm256_add_epi32(acc[0][j], _mm256_madd_epi16(x0, column));
      acc[1][j] = _mm256_add_epi32(acc[1][j], _mm256_madd_epi16(x1, column));
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < kRows; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums[i]), sum_lanes(acc[i]));
  }
}

// Scale and biases of the columns of a block.
struct BlockColumns {
  int32_t acc_bias[kColumns] = {};
  float w_scale[kColumns] = {};
  float bias[kColumns] = {};
  int64_t count = 0;
};

// numerics/int8.h, int8_output, for four columns; the arrays are padded to four.
[[gnu::always_inline]] inline __m128 outputs(const int32_t* sums, float x_scale,
                                             const BlockColumns& columns) {
  const __m128i acc =
      _mm_add_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sums)),
                    _mm_loadu_si128(reinterpret_cast<const __m128i*>(columns.acc_bias)));
  const __m128 scaled = _mm_mul_ps(_mm_mul_ps(_mm_cvtepi32_ps(acc), _mm_loadu_ps(columns.w_scale)),
                                   _mm_set1_ps(x_scale));
  return _mm_add_ps(scaled, _mm_loadu_ps(columns.bias));
}

BlockColumns block_columns(const LinearTile& tile, int64_t n) {
  BlockColumns columns;
  columns.count = tile.n_end - n < kColumns ? tile.n_end - n : kColumns;
  for (int64_t j = 0; j < columns.count; ++j) {
    columns.w_scale[j] = tile.w_scale[n + j];
    columns.bias[j] = tile.bias == nullptr ? 0.0f : tile.bias[n + j];
    columns.acc_bias[j] = tile.acc_bias == nullptr ? 0 : tile.acc_bias[n + j];
  }
  return columns;
}

void write_block(const LinearTile& tile, int64_t m, int64_t n, const BlockColumns& columns,
                 const int32_t (&sums)[kRows][kColumns]) {
  for (int64_t i = 0; i < kRows && m + i < tile.m_end; ++i) {
    const __m128 y = outputs(sums[i], tile.x_scale[m + i], columns);
    const int64_t first = (m + i) * tile.y_stride + n;
    if (tile.y_type == FloatType::kF32 && columns.count == kColumns) {
      _mm_storeu_ps(static_cast<float*>(tile.y) + first, y);
      continue;
    }
    float lanes[kColumns];
    _mm_storeu_ps(lanes, y);
    for (int64_t j = 0; j < columns.count; ++j) {
      store_float(lanes[j], tile.y, tile.y_type, first + j);
    }
  }
}

}  // namespace

int64_t int8_rows_scratch_bytes(int64_t k) {
  return (kInt8TileM + kColumns) * widened_k(k) * kInt16Bytes;
}

void int8_rows_linear(const LinearTile& tile) noexcept {
  static_assert(kInt8TileM % kRows == 0);
  const int64_t depth = widened_k(tile.k);
  auto* x = reinterpret_cast<int16_t*>(tile.scratch);
  int16_t* w = x + kInt8TileM * depth;
  const int64_t rows = (tile.m_end - tile.m_begin + kRows - 1) / kRows * kRows;
  widen_rows(tile.xq, tile.xq_stride, tile.k, tile.m_begin, tile.m_end, rows, x);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kColumns) {
    widen_rows(reinterpret_cast<const int8_t*>(tile.w), tile.k, tile.k, n, tile.n_end, kColumns, w);
    const BlockColumns columns = block_columns(tile, n);
    for (int64_t i = 0; i < rows; i += kRows) {
      int32_t sums[kRows][kColumns];
      int8_block_hot(x + i * depth, w, depth, sums);
      write_block(tile, tile.m_begin + i, n, columns, sums);
    }
  }
}

}  // namespace mezzotint::avx2
