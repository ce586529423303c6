// What float and FP8 attention share: the split into query tiles, heads as f32 panels, and the
// online softmax over key tiles. Internal to the attention ops and their rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernels/float_ops.h"
#include "mezzotint/attention.h"
#include "mezzotint/context.h"
#include "numerics/quant_scheme.h"

namespace mezzotint::attention {

// A tile of scores [128][256] is 128 KiB, as are the K and V tiles of 128 columns: together they
// fit a second-level cache of 512 KiB. FP8 attention also has one scale per tile
// (numerics/fp8_block.h).
inline constexpr int64_t kQueryTile = 128;
inline constexpr int64_t kKeyTile = 256;

// A row-major f32 matrix that sgemm reads.
struct Panel {
  const float* data;
  int64_t stride;
};

// c:[m,n] = alpha a:[m,k] b + beta c, with b:[k,n], or [n,k] when transposed.
enum class RightOperand : uint8_t { kAsIs, kTransposed };
struct GemmSize {
  int64_t m, n, k;
};
void sgemm(const GemmSize& size, float alpha, Panel a, RightOperand form, Panel b, float beta,
           float* c, int64_t c_stride);

FloatType float_type(DType dtype);  // F32 or BF16

// Rows [first, first + rows) of one head as floats: in place when they are, else in
// copy:[rows,dim].
Panel head_rows(const HeadsView& view, const FloatOps& ops, int64_t batch, int64_t head,
                int64_t first, int64_t rows, float* copy);

// Query rows [q_begin, q_begin + q_rows) of one head, against the first `keys` keys of kv_head.
struct Task {
  int64_t batch, head, kv_head, q_begin, q_rows, keys;
};

int64_t keys_of(const AttentionCall& call, const HeadsView& k, int64_t batch);

// One task per query tile, on the threads of ctx; each has scratch_bytes of its own.
void for_each_task(const HeadsView& q, const HeadsView& k, const AttentionCall& call,
                   int64_t scratch_bytes, const ExecContext& ctx,
                   const std::function<void(const Task&, std::byte* scratch)>& run);

void write_rows(const Task& task, const HeadsView& out, const FloatOps& ops, const float* rows);

// The online softmax of one query tile (Milakov and Gimelshein, "Online normalizer calculation for
// softmax", 2018).
struct SoftmaxTile {
  float* out;      // [rows,dim]: sum of e^(score - row_max) v so far
  float* row_max;  // [rows] largest score so far
  float* row_sum;  // [rows] sum of e^(score - row_max) so far
  int64_t rows;
  int64_t dim;
};

// Floats of a tile with up to kQueryTile rows.
inline constexpr int64_t softmax_floats(int64_t dim) { return kQueryTile * (dim + 2); }
SoftmaxTile split_softmax(float* memory, int64_t rows, int64_t dim);

void start_softmax(const SoftmaxTile& tile);
// scores:[rows,kKeyTile], of which `keys` count, become e^(score - row_max); what was summed under
// the old maximum is rescaled.
void softmax_scores(const SoftmaxTile& tile, const FloatOps& ops, float* scores, int64_t keys);
// out /= row_sum * p_scale; rows without keys are zeros.
void finish_softmax(const SoftmaxTile& tile, const FloatOps& ops, float p_scale);

}  // namespace mezzotint::attention
