#include "kernels/linear_dot.h"

#include "kernels/cpu/avx2/vec16.h"

#define MZ_ISA avx2
#include "kernels/linear_dot.inl"
