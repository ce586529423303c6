#include "kernels/vector_rows.h"

#include "kernels/cpu/avx2/vec16.h"

#define MZ_ISA avx2
#include "kernels/float_ops.inl"
#include "kernels/quantize_mx.inl"
#include "kernels/quantize_rows.inl"
#include "kernels/weight_ops.inl"
