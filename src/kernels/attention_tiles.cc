#include "kernels/attention_tiles.h"

#include <cblas.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "numerics/float_type.h"

namespace mezzotint::attention {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

int64_t row_offset(const HeadsView& view, int64_t batch, int64_t row, int64_t head) {
  return batch * view.batch_stride + row * view.seq_stride + head * view.head_stride;
}

void softmax_row(const SoftmaxTile& tile, const FloatOps& ops, int64_t row, float* scores,
                 int64_t keys) {
  float& row_max = tile.row_max[row];
  const float new_max = std::max(row_max, ops.max(scores, keys));
  // A row of only -inf so far has no weight; any finite shift keeps it 0.
  const float shift = new_max == kMinusInfinity ? 0.0f : new_max;
  float rescale = row_max - shift;
  ops.exp_sum(&rescale, 1.0f, 0.0f, 1);
  const float tile_sum = ops.exp_sum(scores, 1.0f, shift, keys);
  tile.row_sum[row] = tile.row_sum[row] * rescale + tile_sum;
  if (rescale != 1.0f) ops.multiply(rescale, tile.out + row * tile.dim, tile.dim);
  row_max = new_max;
}

}  // namespace

void sgemm(const GemmSize& size, float alpha, Panel a, RightOperand form, Panel b, float beta,
           float* c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans,
              form == RightOperand::kTransposed ? CblasTrans : CblasNoTrans,
              static_cast<int>(size.m), static_cast<int>(size.n), static_cast<int>(size.k), alpha,
              a.data, static_cast<int>(a.stride), b.data, static_cast<int>(b.stride), beta, c,
              static_cast<int>(c_stride));
}

FloatType float_type(DType dtype) {
  return dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
}

Panel head_rows(const HeadsView& view, const FloatOps& ops, int64_t batch, int64_t head,
                int64_t first, int64_t rows, float* copy) {
  const FloatType type = float_type(view.dtype);
  const void* data = offset_floats(view.data, type, row_offset(view, batch, first, head));
  if (type == FloatType::kF32 && view.seq_stride >= view.dim) {
    return {static_cast<const float*>(data), view.seq_stride};
  }
  for (int64_t i = 0; i < rows; ++i) {
    ops.widen(offset_floats(data, type, i * view.seq_stride), type, copy + i * view.dim, view.dim);
  }
  return {copy, view.dim};
}

int64_t keys_of(const AttentionCall& call, const HeadsView& k, int64_t batch) {
  return call.kv_length.empty() ? k.seq : call.kv_length[static_cast<size_t>(batch)];
}

void for_each_task(const HeadsView& q, const HeadsView& k, const AttentionCall& call,
                   int64_t scratch_bytes, const ExecContext& ctx,
                   const std::function<void(const Task&, std::byte* scratch)>& run) {
  MZ_CHECK(k.heads > 0 && q.heads % k.heads == 0);
  const int64_t tiles = (q.seq + kQueryTile - 1) / kQueryTile;
  parallel_for(ctx, q.batch * q.heads * tiles, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch = ctx.workspace().take(scratch_bytes);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / tiles / q.heads, head = i / tiles % q.heads;
      const int64_t q_begin = i % tiles * kQueryTile;
      run({.batch = batch,
           .head = head,
           .kv_head = head / (q.heads / k.heads),
           .q_begin = q_begin,
           .q_rows = std::min(kQueryTile, q.seq - q_begin),
           .keys = keys_of(call, k, batch)},
          scratch.as<std::byte>());
    }
  });
}

void write_rows(const Task& task, const HeadsView& out, const FloatOps& ops, const float* rows) {
  const FloatType type = float_type(out.dtype);
  for (int64_t i = 0; i < task.q_rows; ++i) {
    const int64_t offset = row_offset(out, task.batch, task.q_begin + i, task.head);
    ops.narrow(rows + i * out.dim, offset_floats(out.data, type, offset), type, out.dim);
  }
}

SoftmaxTile split_softmax(float* memory, int64_t rows, int64_t dim) {
  float* row_max = memory + kQueryTile * dim;
  return {memory, row_max, row_max + kQueryTile, rows, dim};
}

void start_softmax(const SoftmaxTile& tile) {
  std::fill_n(tile.out, tile.rows * tile.dim, 0.0f);
  std::fill_n(tile.row_max, tile.rows, kMinusInfinity);
  std::fill_n(tile.row_sum, tile.rows, 0.0f);
}

void softmax_scores(const SoftmaxTile& tile, const FloatOps& ops, float* scores, int64_t keys) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    softmax_row(tile, ops, i, scores + i * kKeyTile, keys);
  }
}

void finish_softmax(const SoftmaxTile& tile, const FloatOps& ops, float p_scale) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    if (tile.row_sum[i] == 0.0f) continue;
    ops.multiply(1.0f / (tile.row_sum[i] * p_scale), tile.out + i * tile.dim, tile.dim);
  }
}

}  // namespace mezzotint::attention
