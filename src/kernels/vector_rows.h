// What every ISA folder offers from the shared sources float_ops.inl, quantize_rows.inl,
// quantize_mx.inl and weight_ops.inl; and some of them from float_product.inl, mx_misses.inl and
// coded_row.cc.
#pragma once

#include "kernels/coded_row.h"
#include "kernels/float_ops.h"
#include "kernels/float_product.h"
#include "kernels/mx_misses.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"

#define MZ_VECTOR_ROWS(isa)                                  \
  namespace mezzotint::isa {                                 \
  extern const FloatOps kFloatOps;                           \
  extern const WeightOps kWeightOps;                         \
  void quantize_rows(const QuantizeRowsTile& tile) noexcept; \
  void quantize_mx(const QuantizeMxTile& tile) noexcept;     \
  }

MZ_VECTOR_ROWS(portable)
MZ_VECTOR_ROWS(avx2)
MZ_VECTOR_ROWS(avx512)

#undef MZ_VECTOR_ROWS

namespace mezzotint::portable {
void add_product(const FloatProduct& t) noexcept;
double take_mx_misses(float* w, Element element, int64_t n) noexcept;
}  // namespace mezzotint::portable
namespace mezzotint::avx2 {
void add_product(const FloatProduct& t) noexcept;
void add_coded_row(const CodedRow& row, CodedRowSums& sums) noexcept;
double take_mx_misses(float* w, Element element, int64_t n) noexcept;
}  // namespace mezzotint::avx2
