#include "kernels/weight_ops.h"

#include "kernels/vector_rows.h"

namespace mezzotint {

const WeightOps& weight_ops(Isa isa) {
  if (isa >= Isa::kAvx512) return avx512::kWeightOps;
  return isa == Isa::kAvx2 ? avx2::kWeightOps : portable::kWeightOps;
}

}  // namespace mezzotint
