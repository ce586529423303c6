#include "kernels/float_product.h"

#include "kernels/vector_rows.h"

namespace mezzotint {

// Registers of AVX-512 would halve the instructions, but not the time where one takes both cycles
// of a pipe (Zen 4); it has no row of its own until one is measured.
AddProductFn add_product(Isa isa) {
  return isa >= Isa::kAvx2 ? avx2::add_product : portable::add_product;
}

}  // namespace mezzotint
