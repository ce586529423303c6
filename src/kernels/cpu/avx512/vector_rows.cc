#include "kernels/vector_rows.h"

#include "kernels/cpu/avx512/vec16.h"

#define MZ_ISA avx512
#include "kernels/float_ops.inl"
#include "kernels/quantize_mx.inl"
#include "kernels/quantize_rows.inl"
#include "kernels/weight_ops.inl"
