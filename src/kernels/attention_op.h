// Attention over query tiles and blocks of keys, float and FP8; never an S x S buffer.
//
// FP8: q and k are rotated in f32, q, k and v become e4m3 per head in blocks of rows
// (numerics/fp8_block.h), and the numerators of the softmax as well (docs/numerics.md). k and v are
// packed once per head into the order that the kernel row reads, q tile by tile.
#pragma once

#include <span>
#include <string_view>

#include "base/cpu_features.h"
#include "kernels/ops.h"
#include "mezzotint/attention.h"
#include "mezzotint/context.h"

namespace mezzotint {

struct AttentionKernel {
  std::string_view name;  // "attention/avx512_bf16"
  Isa isa;
  FloatType operand;  // of both products; kBF16 rows serve BF16 q, k and v, and e4m3
  const AttentionOps* ops;
};

// From kernels.inc: best first, the reference last.
std::span<const AttentionKernel> attention_kernels();
const AttentionKernel& choose_attention_kernel(AttentionForm form, FloatType type, Isa isa);

// One scale covers all columns of a head: longer rows would have a second one, which the format's
// own operator does not take.
inline constexpr int64_t kFp8MaxHeadDim = 128;

// x becomes x R.
struct Rotation {
  const float* matrix = nullptr;  // R:[dim,dim]
  // R = diag(before) H diag(after) with Sylvester's H, dim a power of two, at least 16; or null.
  const float* before = nullptr;
  const float* after = nullptr;
};

struct AttentionSetup {
  AttentionForm form = AttentionForm::kFloat;
  Rotation q_rot{}, k_rot{};  // kFp8
  float p_scale = 1.0f;       // kFp8
};

// Arguments are already checked (nn/attention.cc); FP8: dim <= kFp8MaxHeadDim. Head h of q reads kv
// head h / (heads/kv_heads). A query row whose kv_length is 0 gives zeros. FP8: an Inf or NaN in a
// block makes NaN of everything that reads the block: 128 query rows, or all rows of the heads that
// read it.
void run_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v, const HeadsView& out,
                   const AttentionCall& call, const AttentionSetup& setup,
                   const AttentionKernel& kernel, const ExecContext& ctx);

}  // namespace mezzotint
