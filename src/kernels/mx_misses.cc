#include "kernels/mx_misses.h"

#include "kernels/vector_rows.h"

namespace mezzotint {

// As add_product, no row of AVX-512: it has to be measured first.
TakeMxMissesFn take_mx_misses(Isa isa) {
  return isa >= Isa::kAvx2 ? avx2::take_mx_misses : portable::take_mx_misses;
}

}  // namespace mezzotint
