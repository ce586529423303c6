// Integer rows of the ISA folders: codes of x times codes of w, numerics/int8.h for the output.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace mezzotint {

// 8 groups of 14 rows: their codes stay in the second-level cache up to k = 8192.
constexpr int64_t kInt8TileM = 112;
constexpr int64_t kInt8TileN = 256;  // 8 panels

// The four products of vpdpbusd, u8 * s8, sum up in 32 bits: 255 * 128 * k < 2^31.
constexpr int64_t kInt8VnniMaxK = 65793;

constexpr const char* declines_int8_vnni(const LinearQuery& query) noexcept {
  return query.k <= kInt8VnniMaxK ? nullptr : "k > 65793 may overflow 32 bits";
}

// Signed products: 127 * 128 * k < 2^31.
constexpr int64_t kInt8RowsMaxK = 132104;

constexpr const char* declines_int8_rows(const LinearQuery& query) noexcept {
  return query.k <= kInt8RowsMaxK ? nullptr : "k > 132104 may overflow 32 bits";
}

namespace avx2 {
int64_t int8_vnni_scratch_bytes(int64_t k);
void int8_vnni_linear(const LinearTile& tile) noexcept;
}  // namespace avx2

namespace avx512_vnni {
void int8_vnni_linear(const LinearTile& tile) noexcept;
}

}  // namespace mezzotint
