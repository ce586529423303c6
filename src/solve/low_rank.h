// The low-rank branch of a quantized linear: W = up down + residual.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct LowRankSplit {
  Tensor down;      // BF16 [rank,k], rows of V^T
  Tensor up;        // BF16 [n,rank], U S
  Tensor residual;  // F32 [n,k] = w - up down, of the rounded factors: their rounding is in it
};

// The leading singular vectors of w:[n,k] (any float dtype, finite) in a block Krylov space
// (Musco and Musco, "Randomized block Krylov methods", 2015) from a fixed seed. 1 <= rank <= min(n,
// k). The result does not depend on the number of threads.
LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx);

// What a row of codes depends on: the row, or, where a scale serves the whole tensor, all of them.
enum class RoundedBy : uint8_t { kRow, kTensor };

struct ResidualRounding {
  RoundedBy by = RoundedBy::kRow;
  // The values that the codes of some rows:[.,k] F32 stand for, as many. Several threads call it at
  // once.
  std::function<void(const Tensor& rows, std::span<float> values)> round{};
};

// The branch fitted to what rounding leaves: each step takes the leading singular vectors of
// w - rounded(residual) (SVDQuant, Li et al., 2024) and the step with the smallest
// || residual - rounded(residual) || is kept, `start` included.
LowRankSplit alternate_low_rank(const Tensor& w, LowRankSplit start,
                                const ResidualRounding& rounding, int steps,
                                const ExecContext& ctx);

// What both take together, beside w and the residual: bytes at most, and multiplications and
// additions, without the rounding. `steps` may be 0.
struct LowRankCost {
  int64_t bytes = 0;
  double operations = 0;
};
LowRankCost low_rank_cost(int64_t n, int64_t k, int64_t rank, int steps, RoundedBy by, int threads);

}  // namespace mezzotint
