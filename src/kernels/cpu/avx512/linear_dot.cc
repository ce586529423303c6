#include "kernels/linear_dot.h"

#include "kernels/cpu/avx512/vec16.h"

#define MZ_ISA avx512
#include "kernels/linear_dot.inl"
