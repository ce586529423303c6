// The low-rank branch of a quantized linear: W = up down + residual.
#pragma once

#include <cstdint>
#include <functional>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct LowRankSplit {
  Tensor down;      // BF16 [rank,k], rows of V^T
  Tensor up;        // BF16 [n,rank], U S
  Tensor residual;  // F32 [n,k] = w - up down, of the rounded factors: their rounding is in it
};

// The leading singular vectors of w:[n,k] (any float dtype, finite) by randomised subspace
// iteration (Halko, Martinsson and Tropp, "Finding structure with randomness", 2011) from a fixed
// seed. 1 <= rank <= min(n, k). The result does not depend on the number of threads.
LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx);

// The branch fitted to what rounding leaves: each step takes the leading singular vectors of
// w - rounded(residual) (SVDQuant, Li et al., 2024) and the step with the smallest
// || residual - rounded(residual) || is kept, `start` included. `rounded` gives F32 [n,k].
LowRankSplit alternate_low_rank(const Tensor& w, LowRankSplit start,
                                const std::function<Tensor(const Tensor& residual)>& rounded,
                                int steps, const ExecContext& ctx);

}  // namespace mezzotint
