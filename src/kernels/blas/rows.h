// Rows over OpenBLAS's sgemm, with conversions and epilogue of one ISA level. OpenBLAS chooses its
// own instructions by what the processor offers: MEZZOTINT_ISA does not reach inside it.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "kernels/ops.h"

namespace mezzotint::blas {

// One tile and its converted operands stay around a megabyte: the second-level cache.
constexpr int64_t kTileM = 256;
constexpr int64_t kTileN = 256;

// Every row-major layout and every form of x, as floats.
template <Isa isa>
void linear(const LinearTile& tile) noexcept;

// Integer codes of x and w, one scale per row of w: equal to integer arithmetic.
void integer_linear(const LinearTile& tile) noexcept;
int64_t integer_scratch_bytes(int64_t k);

int64_t linear_scratch_bytes(int64_t k);
const char* declines_linear(const LinearQuery& query) noexcept;

}  // namespace mezzotint::blas
