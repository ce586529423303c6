// A tensor as the operand of an attention.
#pragma once

#include "mezzotint/attention.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// t:[batch, tokens, heads, dim], dense; what is written through the view is written into t.
inline HeadsView heads_view(const Tensor& t) {
  return {.data = t.buffer().mutable_data(),
          .dtype = t.dtype(),
          .batch = t.dim(0),
          .seq = t.dim(1),
          .heads = t.dim(2),
          .dim = t.dim(3),
          .batch_stride = t.dim(1) * t.dim(2) * t.dim(3),
          .seq_stride = t.dim(2) * t.dim(3),
          .head_stride = t.dim(3)};
}

}  // namespace mezzotint
