// Float attention with online softmax over key tiles; never an S x S buffer.
#pragma once

#include "base/cpu_features.h"
#include "mezzotint/attention.h"
#include "mezzotint/context.h"

namespace mezzotint {

// Arguments are already checked (nn/attention.cc). Head h of q reads kv head h / (heads/kv_heads).
// A query row whose kv_length is 0 gives zeros.
void run_float_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                         const HeadsView& out, const AttentionCall& call, Isa isa,
                         const ExecContext& ctx);

}  // namespace mezzotint
