// What became of a layer's outputs, on the sample of its input that the statistics hold.
#pragma once

#include <vector>

#include "format/statistics.h"
#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "mezzotint/timestep.h"
#include "quant/algorithm.h"

namespace mezzotint {

struct OutputErrors {
  double error = 0;                   // ||y - y'||^2 / ||y||^2, without the bias
  double cosine = 1;                  // of y and y'
  std::vector<double> step_errors{};  // the same, of the rows of each step; -1 where there are none
};

// w:[n,k] as the source has it; `params` what a reader makes of the file. x is rounded as the
// layer rounds it: statically by the file's scales, per step where it has them, `policy`
// permitting.
OutputErrors output_errors(const FileContract& contract, const LinearParams& params,
                           const InputStatistics& input, const Tensor& w,
                           const TimestepPolicy& policy, const ExecContext& ctx);

double sqnr_db(double error);  // -10 log10(error); kExactSqnrDb of 0

}  // namespace mezzotint
