// What every ISA folder offers from the shared sources float_ops.inl, quantize_rows.inl and
// quantize_mx.inl.
#pragma once

#include "kernels/float_ops.h"
#include "kernels/ops.h"

#define MZ_VECTOR_ROWS(isa)                                  \
  namespace mezzotint::isa {                                 \
  extern const FloatOps kFloatOps;                           \
  void quantize_rows(const QuantizeRowsTile& tile) noexcept; \
  void quantize_mx(const QuantizeMxTile& tile) noexcept;     \
  }

MZ_VECTOR_ROWS(portable)
MZ_VECTOR_ROWS(avx2)
MZ_VECTOR_ROWS(avx512)

#undef MZ_VECTOR_ROWS
