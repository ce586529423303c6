#include "kernels/float_ops.h"

#include "kernels/vector_rows.h"

namespace mezzotint {

const FloatOps& float_ops(Isa isa) {
  if (isa >= Isa::kAvx512) return avx512::kFloatOps;
  return isa == Isa::kAvx2 ? avx2::kFloatOps : portable::kFloatOps;
}

}  // namespace mezzotint
