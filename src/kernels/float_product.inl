// add_product of float_product.h for one ISA. Included after that ISA's vec16.h, with MZ_ISA naming
// its namespace and kProductRows x kProductVectors the accumulators that its registers hold.

#include <cstdint>

#include "kernels/float_product.h"
#include "kernels/vec16_blocks.inl"

namespace mezzotint::MZ_ISA {
namespace {

constexpr int kRowsPerPointer =
    3;  // p, p + a_row, p + 2 a_row: addresses of one register and scale

// kRows rows and 16 kVectors columns of c. A pointer for every row would leave the compiler no
// registers for the rest.
template <int kRows, int kVectors>
void product_hot(const FloatProduct& t, const float* a, const float* b, float* c) {
  constexpr int kPointers = (kRows + kRowsPerPointer - 1) / kRowsPerPointer;
  Vec acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) acc[r][v] = load(c + r * t.c_row + v * kLanes);
  }
  const float* p[kPointers];
#pragma GCC unroll 16
  for (int i = 0; i < kPointers; ++i) p[i] = a + i * kRowsPerPointer * t.a_row;
  const int64_t a_row = t.a_row, a_step = t.a_step, b_step = t.b_step;
  for (int64_t s = t.steps; s > 0; --s) {
    Vec column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec value = splat(p[r / kRowsPerPointer][r % kRowsPerPointer * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[r][v] = multiply_add(value, column[v], acc[r][v]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kPointers; ++i) p[i] += a_step;
    b += b_step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(c + r * t.c_row + v * kLanes, acc[r][v]);
  }
}

template <int kRows, int kVectors>
void product_of(int64_t rows, const FloatProduct& t, const float* a, const float* b, float* c) {
  if (rows == kRows) return product_hot<kRows, kVectors>(t, a, b, c);
  if constexpr (kRows > 1) product_of<kRows - 1, kVectors>(rows, t, a, b, c);
}

// 16 kVectors columns from j on, of all rows.
template <int kVectors>
void product_columns(const FloatProduct& t, int64_t j) {
  for (int64_t i = 0; i < t.rows; i += kProductRows) {
    const int64_t rows = t.rows - i < kProductRows ? t.rows - i : kProductRows;
    product_of<kProductRows, kVectors>(rows, t, t.a + i * t.a_row, t.b + j, t.c + i * t.c_row + j);
  }
}

// The columns behind the last whole vector.
void product_rest(const FloatProduct& t, int64_t j) {
  const PartOfBlock part = {t.columns - j};
  for (int64_t i = 0; i < t.rows; ++i) {
    float* c = t.c + i * t.c_row + j;
    Vec acc = load_lanes(part, c, 0.0f);
    for (int64_t s = 0; s < t.steps; ++s) {
      const Vec column = load_lanes(part, t.b + s * t.b_step + j, 0.0f);
      acc = multiply_add(splat(t.a[i * t.a_row + s * t.a_step]), column, acc);
    }
    store_lanes(part, c, acc);
  }
}

}  // namespace

void add_product(const FloatProduct& t) noexcept {
  constexpr int64_t kColumns = kProductVectors * kLanes;
  int64_t j = 0;
  for (; j + kColumns <= t.columns; j += kColumns) product_columns<kProductVectors>(t, j);
  for (; j + kLanes <= t.columns; j += kLanes) product_columns<1>(t, j);
  if (j < t.columns) product_rest(t, j);
}

}  // namespace mezzotint::MZ_ISA
