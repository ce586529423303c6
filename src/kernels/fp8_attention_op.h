// Attention on e4m3 codes: q and k are rotated in f32, q, k and v quantized per head in blocks of
// rows (numerics/fp8_block.h), and a kernel row runs the online softmax on the codes. Never an
// S x S buffer; k and v stand in scratch memory as bytes.
#pragma once

#include <span>
#include <string_view>

#include "base/cpu_features.h"
#include "kernels/ops.h"
#include "mezzotint/attention.h"
#include "mezzotint/context.h"

namespace mezzotint {

struct Fp8AttentionKernel {
  std::string_view name;  // "fp8_attention/blas_avx512"
  Isa isa;
  int64_t (*scratch_bytes)(int64_t dim);
  Fp8AttentionFn run;
};

// From kernels.inc: best first, the reference last.
std::span<const Fp8AttentionKernel> fp8_attention_kernels();
const Fp8AttentionKernel& choose_fp8_attention_kernel(Isa isa);

// One scale covers all columns of a head: longer rows would have a second one, which the format's
// own operator does not take.
inline constexpr int64_t kFp8MaxHeadDim = 128;

struct Fp8AttentionSetup {
  const float* q_rot = nullptr;  // [dim,dim]: q becomes q q_rot
  const float* k_rot = nullptr;  // [dim,dim]
  float p_scale = 1.0f;
};

// Arguments are already checked (nn/attention.cc), dim <= kFp8MaxHeadDim. Head h of q reads kv head
// h / (heads/kv_heads). A query row whose kv_length is 0 gives zeros. An Inf or NaN in a block
// makes NaN of everything that reads the block: 128 query rows, or all rows of the heads that read
// it.
void run_fp8_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                       const HeadsView& out, const AttentionCall& call,
                       const Fp8AttentionSetup& setup, const Fp8AttentionKernel& kernel,
                       const ExecContext& ctx);

}  // namespace mezzotint
