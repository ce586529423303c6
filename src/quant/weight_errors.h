// What became of a weight: w against the E that its file stands for (effective_weight.h).
#pragma once

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "quant/plan.h"

namespace mezzotint {

inline constexpr double kExactSqnrDb = 999;  // E equals w: JSON has no infinity

struct WeightErrors {
  double sqnr_db = kExactSqnrDb;  // 10 log10(sum w^2 / sum (w - E)^2)
  double cosine = 1;              // of w and E as vectors
  double zero_share = 0;          // of the codes that stand for zero
  double clip_share = 0;          // of what was to be coded: beyond the grid's ends, more than half
                                  // of the grid's last step
  double outlier_ratio = 0;       // max |w| over the root mean square of w
};

// w:[n,k], any float dtype. The result does not depend on the number of threads.
WeightErrors weight_errors(const Tensor& w, const LinearParams& params, const ExecContext& ctx);

}  // namespace mezzotint
