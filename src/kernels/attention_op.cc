#include "kernels/attention_op.h"

#include <algorithm>

#include "kernels/attention_tiles.h"
#include "kernels/float_ops.h"

namespace mezzotint {
namespace {

using attention::kKeyTile;
using attention::kQueryTile;
using attention::Panel;
using attention::RightOperand;

// Scratch of one task: f32 copies of bf16 rows, scores and the softmax.
int64_t scratch_floats(int64_t dim) {
  return kQueryTile * (dim + kKeyTile) + kKeyTile * dim + attention::softmax_floats(dim);
}

struct Operands {
  const HeadsView& q;
  const HeadsView& k;
  const HeadsView& v;
  const HeadsView& out;
};

void run_task(const attention::Task& task, const Operands& o, float scale, const FloatOps& ops,
              float* memory) {
  const int64_t dim = o.q.dim;
  float* const scores = memory;
  float* const q_copy = scores + kQueryTile * kKeyTile;
  float* const kv_copy = q_copy + kQueryTile * dim;
  const auto softmax = attention::split_softmax(kv_copy + kKeyTile * dim, task.q_rows, dim);
  const Panel queries =
      attention::head_rows(o.q, ops, task.batch, task.head, task.q_begin, task.q_rows, q_copy);
  attention::start_softmax(softmax);
  for (int64_t first = 0; first < task.keys; first += kKeyTile) {
    const int64_t keys = std::min(kKeyTile, task.keys - first);
    const Panel k = attention::head_rows(o.k, ops, task.batch, task.kv_head, first, keys, kv_copy);
    attention::sgemm({task.q_rows, keys, dim}, scale, queries, RightOperand::kTransposed, k, 0.0f,
                     scores, kKeyTile);
    attention::softmax_scores(softmax, ops, scores, keys);
    const Panel v = attention::head_rows(o.v, ops, task.batch, task.kv_head, first, keys, kv_copy);
    attention::sgemm({task.q_rows, dim, keys}, 1.0f, {scores, kKeyTile}, RightOperand::kAsIs, v,
                     1.0f, softmax.out, dim);
  }
  attention::finish_softmax(softmax, ops, 1.0f);
  attention::write_rows(task, o.out, ops, softmax.out);
}

}  // namespace

void run_float_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                         const HeadsView& out, const AttentionCall& call, Isa isa,
                         const ExecContext& ctx) {
  const FloatOps& ops = float_ops(isa);
  const int64_t bytes = scratch_floats(q.dim) * static_cast<int64_t>(sizeof(float));
  attention::for_each_task(
      q, k, call, bytes, ctx, [&](const attention::Task& task, std::byte* scratch) {
        run_task(task, {q, k, v, out}, call.scale, ops, reinterpret_cast<float*>(scratch));
      });
}

}  // namespace mezzotint
