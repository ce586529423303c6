// Integer rows of the ISA folders: codes of x times codes of w, summed in 32 bits; numerics/int8.h
// for the output and for the longest k.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace mezzotint {

// 8 groups of 14 rows: their codes stay in the second-level cache up to k = 8192.
constexpr int64_t kInt8TileM = 112;
constexpr int64_t kInt8TileN = 256;  // 8 panels

namespace avx2 {
int64_t int8_vnni_scratch_bytes(int64_t k);
void int8_vnni_linear(const LinearTile& tile) noexcept;
}  // namespace avx2

namespace avx512_vnni {
void int8_vnni_linear(const LinearTile& tile) noexcept;
}

}  // namespace mezzotint
