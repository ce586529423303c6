#include "kernels/fp8_attention_op.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/attention_tiles.h"
#include "kernels/blas/rows.h"
#include "kernels/float_ops.h"
#include "kernels/reference/rows.h"
#include "numerics/fp8_block.h"

namespace mezzotint {
namespace {

using attention::Panel;
using attention::RightOperand;

#define MZ_FP8_ATTENTION(name, isa, scratch_bytes, run) {name, Isa::isa, scratch_bytes, run},
constexpr Fp8AttentionKernel kKernels[] = {
#include "kernels/kernels.inc"
};

// A block of rows before it is quantized: a copy as floats, and its rotation. [rows,dim] each.
struct BlockFloats {
  float* copy;
  float* rotated;
};

constexpr int64_t block_bytes(int64_t rows, int64_t dim) {
  return 2 * rows * dim * static_cast<int64_t>(sizeof(float));
}

BlockFloats split_block(std::byte* memory, int64_t rows, int64_t dim) {
  auto* const copy = reinterpret_cast<float*>(memory);
  return {copy, copy + rows * dim};
}

// x:[rows,dim] to codes:[rows,dim] with one scale, which is returned.
float quantize_block(Panel x, int64_t rows, int64_t dim, const FloatOps& ops, uint8_t* codes) {
  float amax = 0.0f;
  for (int64_t i = 0; i < rows; ++i) {
    const float row_amax = ops.amax(x.data + i * x.stride, dim);
    amax = is_nan(row_amax) || row_amax > amax ? row_amax : amax;
  }
  const float scale = fp8_block_scale(amax);
  if (!(scale > 0.0f)) {
    std::memset(codes, 0, static_cast<size_t>(rows * dim));
    return scale;
  }
  for (int64_t i = 0; i < rows; ++i) {
    ops.e4m3_codes(x.data + i * x.stride, scale, codes + i * dim, dim);
  }
  return scale;
}

struct Block {
  int64_t batch, head, first, rows;
};

// Rows of one head, rotated where there is a rotation, as codes; the scale.
float quantize_rows_of_head(const HeadsView& x, const Block& block, const float* rotation,
                            const FloatOps& ops, const BlockFloats& memory, uint8_t* codes) {
  const int64_t rows = block.rows, dim = x.dim;
  Panel panel =
      attention::head_rows(x, ops, block.batch, block.head, block.first, rows, memory.copy);
  if (rotation != nullptr) {
    attention::sgemm({rows, dim, dim}, 1.0f, panel, RightOperand::kAsIs, {rotation, dim}, 0.0f,
                     memory.rotated, dim);
    panel = {memory.rotated, dim};
  }
  return quantize_block(panel, rows, dim, ops, codes);
}

// The codes of k or v: per batch and head as many whole blocks as its length needs.
class KeyCodes {
 public:
  KeyCodes(const HeadsView& x, const ExecContext& ctx)
      : heads_(x.heads),
        blocks_((x.seq + kFp8KeyBlock - 1) / kFp8KeyBlock),
        block_size_(kFp8KeyBlock * x.dim),
        codes_(ctx.workspace().take(x.batch * heads_ * blocks_ * block_size_)),
        scales_(ctx.workspace().take(x.batch * heads_ * blocks_ *
                                     static_cast<int64_t>(sizeof(float)))) {}

  int64_t blocks() const { return blocks_; }
  int64_t index(int64_t batch, int64_t head) const { return (batch * heads_ + head) * blocks_; }
  uint8_t* codes(int64_t index) const { return codes_.as<uint8_t>() + index * block_size_; }
  float* scale(int64_t index) const { return scales_.as<float>() + index; }

 private:
  int64_t heads_, blocks_, block_size_;
  Scratch codes_, scales_;
};

// Only rows below the batch's length are read.
void quantize_keys(const HeadsView& x, const AttentionCall& call, const float* rotation,
                   const FloatOps& ops, const KeyCodes& to, const ExecContext& ctx) {
  const int64_t count = x.batch * x.heads * to.blocks();
  parallel_for(ctx, count, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch = ctx.workspace().take(block_bytes(kFp8KeyBlock, x.dim));
    const BlockFloats memory = split_block(scratch.as<std::byte>(), kFp8KeyBlock, x.dim);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / to.blocks() / x.heads;
      const int64_t first = i % to.blocks() * kFp8KeyBlock;
      const int64_t rows = std::min(kFp8KeyBlock, attention::keys_of(call, x, batch) - first);
      if (rows <= 0) continue;
      *to.scale(i) = quantize_rows_of_head(x, {batch, i / to.blocks() % x.heads, first, rows},
                                           rotation, ops, memory, to.codes(i));
    }
  });
}

// Scratch of one task: the query block as floats, its codes, its output, and the row's own.
struct TaskBytes {
  int64_t block, codes, out, kernel;
  int64_t total() const { return block + codes + out + kernel; }
};

TaskBytes task_bytes(const Fp8AttentionKernel& kernel, int64_t dim) {
  const int64_t elements = kFp8QueryBlock * dim;  // a multiple of 64: all parts stay aligned
  return {block_bytes(kFp8QueryBlock, dim), elements,
          elements * static_cast<int64_t>(sizeof(float)), kernel.scratch_bytes(dim)};
}

}  // namespace

std::span<const Fp8AttentionKernel> fp8_attention_kernels() { return kKernels; }

const Fp8AttentionKernel& choose_fp8_attention_kernel(Isa isa) {
  for (const Fp8AttentionKernel& row : kKernels) {
    if (row.isa <= isa) return row;
  }
  check_failed("fp8_attention: the reference row is portable", __FILE__, __LINE__);
}

void run_fp8_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                       const HeadsView& out, const AttentionCall& call,
                       const Fp8AttentionSetup& setup, const Fp8AttentionKernel& kernel,
                       const ExecContext& ctx) {
  MZ_CHECK(q.dim <= kFp8MaxHeadDim && setup.q_rot != nullptr && setup.k_rot != nullptr);
  const FloatOps& ops = float_ops(kernel.isa);
  const KeyCodes k_codes(k, ctx), v_codes(v, ctx);
  quantize_keys(k, call, setup.k_rot, ops, k_codes, ctx);
  quantize_keys(v, call, nullptr, ops, v_codes, ctx);
  const TaskBytes bytes = task_bytes(kernel, q.dim);
  attention::for_each_task(q, k, call, bytes.total(), ctx,
                           [&](const attention::Task& task, std::byte* scratch) {
                             auto* const codes = reinterpret_cast<uint8_t*>(scratch + bytes.block);
                             const float q_scale = quantize_rows_of_head(
                                 q, {task.batch, task.head, task.q_begin, task.q_rows}, setup.q_rot,
                                 ops, split_block(scratch, kFp8QueryBlock, q.dim), codes);
                             const int64_t first = k_codes.index(task.batch, task.kv_head);
                             std::byte* const rest = scratch + bytes.block + bytes.codes;
                             const Fp8AttentionTile tile = {.q = codes,
                                                            .k = k_codes.codes(first),
                                                            .v = v_codes.codes(first),
                                                            .q_scale = q_scale,
                                                            .k_scale = k_codes.scale(first),
                                                            .v_scale = v_codes.scale(first),
                                                            .q_rows = task.q_rows,
                                                            .keys = task.keys,
                                                            .dim = q.dim,
                                                            .scale = call.scale,
                                                            .p_scale = setup.p_scale,
                                                            .out = reinterpret_cast<float*>(rest),
                                                            .scratch = rest + bytes.out};
                             kernel.run(tile);
                             attention::write_rows(task, out, ops, tile.out);
                           });
}

}  // namespace mezzotint
