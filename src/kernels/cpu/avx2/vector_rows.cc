#include "kernels/vector_rows.h"

#include "kernels/cpu/avx2/vec16.h"

namespace mezzotint::avx2 {
namespace {

// 12 accumulators, 2 registers of b, 1 of a, of 16.
constexpr int kProductRows = 6;
constexpr int kProductVectors = 1;

}  // namespace
}  // namespace mezzotint::avx2

#define MZ_ISA avx2
#include "kernels/float_ops.inl"
#include "kernels/float_product.inl"
#include "kernels/mx_misses.inl"
#include "kernels/quantize_mx.inl"
#include "kernels/quantize_rows.inl"
#include "kernels/weight_ops.inl"
