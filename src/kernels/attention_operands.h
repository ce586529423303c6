// Rows of one head as an attention row reads them: in place, or rotated and quantized. Internal to
// the attention op.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_op.h"
#include "kernels/float_ops.h"

namespace mezzotint::attention {

struct Rows {
  int64_t batch, head, first, count;
};

FloatType float_type(DType dtype);  // F32 or BF16
int64_t row_offset(const HeadsView& view, int64_t batch, int64_t row, int64_t head);

// Floats in which a block of rows is rotated and measured.
int64_t rotation_bytes(int64_t rows, int64_t dim);

// What pack_queries, pack_keys and pack_values take, without `packed`. FP8 rows stand in
// memory:[rotation_bytes] and have the scale of their block; `rotation` may have no matrix.
AttentionPack operand_rows(const HeadsView& x, const Rows& rows, AttentionForm form,
                           const Rotation& rotation, const FloatOps& ops, std::byte* memory);

}  // namespace mezzotint::attention
