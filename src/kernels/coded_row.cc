#include "kernels/coded_row.h"

#include "kernels/vector_rows.h"

namespace mezzotint {

AddCodedRow coded_row_op(Isa isa) { return isa >= Isa::kAvx2 ? avx2::add_coded_row : nullptr; }

}  // namespace mezzotint
