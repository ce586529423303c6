#include "kernels/vector_rows.h"

#include "kernels/cpu/portable/vec16.h"

namespace mezzotint::portable {
namespace {

// 8 accumulators, 4 registers of b, 1 of a, of 16.
constexpr int kProductRows = 2;
constexpr int kProductVectors = 1;

}  // namespace
}  // namespace mezzotint::portable

#define MZ_ISA portable
#include "kernels/float_ops.inl"
#include "kernels/float_product.inl"
#include "kernels/mx_misses.inl"
#include "kernels/quantize_mx.inl"
#include "kernels/quantize_rows.inl"
#include "kernels/weight_ops.inl"
