// c += a b in f32 where one side is thin: a few dozen columns or steps. A gemm packs both sides
// first, which then takes longer than multiplying; this reads them where they are.
//
//   add_product(active_isa())({.a = w, .a_row = k, .a_step = 1, .b = x, .b_step = 32, .c = y,
//                              .c_row = 32, .rows = n, .steps = k, .columns = 32});
//
// Every sum runs over the steps in order: fused on AVX2, rounded twice by the portable row. One
// source (float_product.inl) is compiled for both. No state.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace mezzotint {

// c(i, j) += sum over s of a(i, s) b(s, j), with
//   a(i, s) = a[i * a_row + s * a_step]    a_row = 1 reads a transposed
//   b(s, j) = b[s * b_step + j]
//   c(i, j) = c[i * c_row + j]
// Rows of a that lie a multiple of 4096 bytes apart share a set of the first-level cache: keep
// their stride off it.
struct FloatProduct {
  const float* a = nullptr;
  int64_t a_row = 0, a_step = 0;
  const float* b = nullptr;
  int64_t b_step = 0;
  float* c = nullptr;
  int64_t c_row = 0;
  int64_t rows = 0, steps = 0, columns = 0;
};
using AddProductFn = void (*)(const FloatProduct&) noexcept;

AddProductFn add_product(Isa isa);  // the best at or below isa

}  // namespace mezzotint
