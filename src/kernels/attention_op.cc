#include "kernels/attention_op.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/float_ops.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {
namespace {

// A tile of scores [128][256] is 128 KiB, as are the K and V tiles of 128 columns: together they
// fit a second-level cache of 512 KiB.
constexpr int64_t kQueryTile = 128;
constexpr int64_t kKeyTile = 256;

// A row-major f32 matrix that sgemm reads.
struct Panel {
  const float* data;
  int64_t stride;
};

// Scratch of one task: f32 copies, scores and the state of the online softmax.
struct TaskScratch {
  float* q;        // [128][dim], bf16 input only
  float* k;        // [256][dim], bf16 input only
  float* v;        // [256][dim], bf16 input only
  float* scores;   // [128][256]
  float* out;      // [128][dim]
  float* row_max;  // [128] largest score so far
  float* row_sum;  // [128] sum of e^(score - row_max) so far
};

int64_t scratch_floats(int64_t dim) {
  return kQueryTile * (2 * dim + kKeyTile + 2) + 2 * kKeyTile * dim;
}

TaskScratch split_scratch(float* p, int64_t dim) {
  TaskScratch s{};
  s.q = p;
  s.k = s.q + kQueryTile * dim;
  s.v = s.k + kKeyTile * dim;
  s.scores = s.v + kKeyTile * dim;
  s.out = s.scores + kQueryTile * kKeyTile;
  s.row_max = s.out + kQueryTile * dim;
  s.row_sum = s.row_max + kQueryTile;
  return s;
}

struct Task {
  int64_t batch, head, q_begin, q_rows;
};

FloatType float_type(DType dtype) {
  return dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
}

const char* row_of(const HeadsView& view, int64_t batch, int64_t row, int64_t head) {
  const int64_t element =
      batch * view.batch_stride + row * view.seq_stride + head * view.head_stride;
  return static_cast<const char*>(view.data) + element * float_size(float_type(view.dtype));
}

// Rows [first, first + rows) of one head as floats: in place when they are floats.
Panel head_rows(const HeadsView& view, const FloatOps& ops, int64_t batch, int64_t head,
                int64_t first, int64_t rows, float* copy) {
  if (view.dtype == DType::kF32 && view.seq_stride >= view.dim) {
    return {reinterpret_cast<const float*>(row_of(view, batch, first, head)), view.seq_stride};
  }
  for (int64_t i = 0; i < rows; ++i) {
    ops.widen(row_of(view, batch, first + i, head), float_type(view.dtype), copy + i * view.dim,
              view.dim);
  }
  return {copy, view.dim};
}

void sgemm(CBLAS_TRANSPOSE transpose_b, int64_t m, int64_t n, int64_t k, float alpha, Panel a,
           Panel b, float beta, float* c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose_b, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), alpha, a.data, static_cast<int>(a.stride), b.data,
              static_cast<int>(b.stride), beta, c, static_cast<int>(c_stride));
}

// One row of scores becomes e^(score - max); what was summed under the old maximum is rescaled
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
void softmax_row(const FloatOps& ops, float* scores, int64_t keys, int64_t dim, float& row_max,
                 float& row_sum, float* out) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const float new_max = std::max(row_max, ops.max(scores, keys));
  // A row of only -inf so far has no weight; any finite shift keeps it 0.
  const float shift = new_max == kMinusInfinity ? 0.0f : new_max;
  float rescale = row_max - shift;
  ops.exp_sum(&rescale, 1.0f, 0.0f, 1);
  const float tile_sum = ops.exp_sum(scores, 1.0f, shift, keys);
  row_sum = row_sum * rescale + tile_sum;
  if (rescale != 1.0f) ops.multiply(rescale, out, dim);
  row_max = new_max;
}

void run_task(const Task& task, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              float scale, int64_t keys, const FloatOps& ops, const TaskScratch& s) {
  const int64_t kv_head = task.head / (q.heads / k.heads);
  const int64_t dim = q.dim;
  const Panel queries = head_rows(q, ops, task.batch, task.head, task.q_begin, task.q_rows, s.q);
  std::fill_n(s.out, task.q_rows * dim, 0.0f);
  std::fill_n(s.row_max, task.q_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(s.row_sum, task.q_rows, 0.0f);
  for (int64_t first = 0; first < keys; first += kKeyTile) {
    const int64_t tile = std::min(kKeyTile, keys - first);
    const Panel key_rows = head_rows(k, ops, task.batch, kv_head, first, tile, s.k);
    sgemm(CblasTrans, task.q_rows, tile, dim, scale, queries, key_rows, 0.0f, s.scores, kKeyTile);
    for (int64_t i = 0; i < task.q_rows; ++i) {
      softmax_row(ops, s.scores + i * kKeyTile, tile, dim, s.row_max[i], s.row_sum[i],
                  s.out + i * dim);
    }
    const Panel value_rows = head_rows(v, ops, task.batch, kv_head, first, tile, s.v);
    sgemm(CblasNoTrans, task.q_rows, dim, tile, 1.0f, {s.scores, kKeyTile}, value_rows, 1.0f, s.out,
          dim);
  }
}

void write_task(const Task& task, const HeadsView& out, const FloatOps& ops, const TaskScratch& s) {
  for (int64_t i = 0; i < task.q_rows; ++i) {
    float* row = s.out + i * out.dim;
    if (s.row_sum[i] != 0.0f) ops.multiply(1.0f / s.row_sum[i], row, out.dim);
    ops.narrow(row, const_cast<char*>(row_of(out, task.batch, task.q_begin + i, task.head)),
               float_type(out.dtype), out.dim);
  }
}

}  // namespace

void run_float_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                         const HeadsView& out, const AttentionCall& call, Isa isa,
                         const ExecContext& ctx) {
  MZ_CHECK(k.heads > 0 && q.heads % k.heads == 0);
  const FloatOps& ops = float_ops(isa);
  const int64_t q_tiles = (q.seq + kQueryTile - 1) / kQueryTile;
  const int64_t tasks = q.batch * q.heads * q_tiles;
  parallel_for(ctx, tasks, 1, [&](int64_t begin, int64_t end) {
    const Scratch memory =
        ctx.workspace().take(scratch_floats(q.dim) * static_cast<int64_t>(sizeof(float)));
    const TaskScratch scratch = split_scratch(memory.as<float>(), q.dim);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t q_begin = i % q_tiles * kQueryTile;
      const Task task{i / q_tiles / q.heads, i / q_tiles % q.heads, q_begin,
                      std::min(kQueryTile, q.seq - q_begin)};
      const int64_t keys =
          call.kv_length.empty() ? k.seq : call.kv_length[static_cast<size_t>(task.batch)];
      run_task(task, q, k, v, call.scale, keys, ops, scratch);
      write_task(task, out, ops, scratch);
    }
  });
}

}  // namespace mezzotint
