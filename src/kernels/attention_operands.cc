#include "kernels/attention_operands.h"

#include <cblas.h>

#include "numerics/float_type.h"
#include "numerics/fp8_block.h"

namespace mezzotint::attention {
namespace {

void multiply(const float* x, const float* rotation, int64_t rows, int64_t dim, float* y) {
  const auto n = static_cast<int>(dim);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows), n, n, 1.0f, x, n,
              rotation, n, 0.0f, y, n);
}

// Rows of a head may be several pages apart, which no prefetcher of the processor follows.
constexpr int64_t kRowsAhead = 8;
void prefetch_row(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(row) + i);
}

}  // namespace

FloatType float_type(DType dtype) {
  return dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
}

int64_t row_offset(const HeadsView& view, int64_t batch, int64_t row, int64_t head) {
  return batch * view.batch_stride + row * view.seq_stride + head * view.head_stride;
}

int64_t rotation_bytes(int64_t rows, int64_t dim) {
  return 2 * rows * dim * static_cast<int64_t>(sizeof(float));
}

AttentionPack operand_rows(const HeadsView& x, const Rows& rows, AttentionForm form,
                           const Rotation& rotation, const FloatOps& ops, std::byte* memory) {
  const FloatType type = float_type(x.dtype);
  const void* const data =
      offset_floats(x.data, type, row_offset(x, rows.batch, rows.first, rows.head));
  AttentionPack pack = {.form = form,
                        .x = data,
                        .x_type = type,
                        .x_stride = x.seq_stride,
                        .rows = rows.count,
                        .dim = x.dim};
  if (form == AttentionForm::kFloat) return pack;
  auto* const copy = reinterpret_cast<float*>(memory);
  float* const rotated = copy + rows.count * x.dim;
  const bool by_matrix = rotation.matrix != nullptr && rotation.before == nullptr;
  float* const y = by_matrix ? rotated : copy;
  for (int64_t i = 0; i < rows.count; ++i) {
    float* const row = copy + i * x.dim;
    prefetch_row(offset_floats(data, type, (i + kRowsAhead) * x.seq_stride),
                 x.dim * float_size(type));
    ops.widen(offset_floats(data, type, i * x.seq_stride), type, row, x.dim);
    if (rotation.before != nullptr) ops.hadamard(rotation.before, rotation.after, row, x.dim);
  }
  if (by_matrix) multiply(copy, rotation.matrix, rows.count, x.dim, rotated);
  pack.x = y;
  pack.x_type = FloatType::kF32;
  pack.x_stride = x.dim;
  pack.scale = fp8_block_scale(ops.amax(y, rows.count * x.dim));
  return pack;
}

}  // namespace mezzotint::attention
