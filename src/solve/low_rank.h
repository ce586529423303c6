// The low-rank branch of a quantized linear: W = up down + residual.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"
#include "solve/panelled_matrix.h"
#include "solve/row_tile.h"

namespace mezzotint {

struct LowRankSplit {
  Tensor down;      // BF16 [rank,k], rows of V^T
  Tensor up;        // BF16 [n,rank], U S
  Tensor residual;  // F32 [n,k] = w - up down, of the rounded factors: their rounding is in it
};

// The branch alone.
struct LowRankFactors {
  Tensor down;
  Tensor up;
};

// The leading singular vectors of w:[n,k] (any float dtype, finite) in a block Krylov space
// (Musco and Musco, "Randomized block Krylov methods", 2015) from a fixed seed. 1 <= rank <= min(n,
// k). The result does not depend on the number of threads.
LowRankFactors leading_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx);
LowRankSplit split_low_rank(const Tensor& w, int64_t rank, const ExecContext& ctx);

// Rows of w - up down, for whoever does not want all of them at once. Threads may share one.
class LowRankResidual {
 public:
  LowRankResidual(const Tensor& w, const LowRankFactors& factors);  // w outlives this

  void fill(const RowTile& part) const;  // on this thread
  // From `first` on, as many as out:[.,k] F32 has.
  void rows(int64_t first, const Tensor& out, const ExecContext& ctx) const;

 private:
  const Tensor& w_;
  Tensor negated_up_;  // F32
  PanelledMatrix down_;
};

// What a code depends on: its block of 32 columns, its row, or, where a scale serves the whole
// tensor, all rows.
enum class RoundedBy : uint8_t { kBlock, kRow, kTensor };

struct ResidualRounding {
  RoundedBy by = RoundedBy::kRow;
  // Replaces the values by what is missed of them: value - rounded(value). Returns the sum of the
  // squares. The part begins and ends where codes do: at blocks, or whole rows, or all of them.
  // Several threads call it at once.
  std::function<double(const RowTile& part)> take_misses{};
};

// To MX blocks of one level, as quantize_mx_weight does: kE2M1 or kE4M3.
ResidualRounding rounding_to_mx(Element element);

// To the values that the codes of some rows:[.,k] F32 stand for, as many. By rows or the tensor.
ResidualRounding rounding_to_values(
    RoundedBy by, std::function<void(const Tensor& rows, std::span<float> values)> round);

// The branch fitted to what rounding leaves (SVDQuant, Li et al., 2024): each step takes the
// leading singular vectors of w - rounded(residual) in the subspace that one product there and back
// makes of the previous step's, and the step with the smallest || residual - rounded(residual) ||
// is kept, `start` included.
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
