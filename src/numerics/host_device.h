// MZ_HD marks the functions of numerics/: for host and device, and never emitted as a function of
// their own. A weak copy compiled with -mavx512f could otherwise be the one that the linker keeps,
// and run on a machine without AVX-512.
#pragma once

#if defined(__CUDACC__)
#define MZ_HD __host__ __device__ __forceinline__ constexpr
#else
#define MZ_HD [[gnu::always_inline]] inline constexpr
#endif
