// Linears of at most four rows, float x: one dot product per output (linear_dot.inl).
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace mezzotint {

constexpr int64_t kDotMaxRows = 4;
constexpr int64_t kDotTileN = 64;  // 3072 outputs are 48 tasks

constexpr int64_t dot_scratch_bytes(int64_t k) {
  constexpr int64_t kFloatBytes = 4;
  return kDotMaxRows * ((k + 15) / 16 * 16) * kFloatBytes;
}

constexpr const char* declines_dot(const LinearQuery& query) noexcept {
  return query.m <= kDotMaxRows ? nullptr : "more than 4 rows: sgemm reads the weights fewer times";
}

namespace avx2 {
void dot_linear(const LinearTile& tile) noexcept;
}
namespace avx512 {
void dot_linear(const LinearTile& tile) noexcept;
}

}  // namespace mezzotint
