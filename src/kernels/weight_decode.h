// Codes back to floats: what sgemm rows, effective weights and tests read. Formulas: numerics.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace mezzotint {

// w[row, begin..end) with every scale and offset that the view has, in f32; without a scale the
// codes themselves. begin is a multiple of 512 or 0. Float weights are not codes.
void decode_weights(const WeightView& w, int64_t row, int64_t begin, int64_t end,
                    float* out) noexcept;

// MX codes, one per byte: codes[0..count) begin at a block. dual_scale may be null.
void decode_mx_bytes(const uint8_t* codes, Element element, const uint8_t* block_scale,
                     const float* dual_scale, int64_t count, float* out) noexcept;

// One code of a row-major matrix as it stands in the file, widened to an integer (int8, int4) or
// kept as a bit pattern (e4m3, e2m1).
int code_at(const std::byte* codes, Element element, int64_t row_bytes, int64_t row,
            int64_t k) noexcept;

// The tile's weight as a view; row-major layouts only.
inline WeightView weight_view(const LinearTile& tile) {
  return {.codes = tile.w,
          .element = tile.w_element,
          .n = tile.n,
          .k = tile.k,
          .group = tile.w_group,
          .scale = tile.w_scale,
          .offset = tile.w_offset,
          .block_scale = tile.w_block_scale,
          .dual_scale = tile.w_dual_scale};
}

// One scale per row and no offset: the scale may stand behind the sum over k.
inline bool is_plain_channel(const LinearTile& tile) {
  return tile.w_scale != nullptr && tile.w_group == 0 && tile.w_offset == nullptr;
}

}  // namespace mezzotint
