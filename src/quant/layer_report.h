// Errors of a layer into its row of a report.
#pragma once

#include "format/statistics.h"
#include "mezzotint/context.h"
#include "mezzotint/report.h"
#include "mezzotint/timestep.h"
#include "quant/algorithm.h"

namespace mezzotint {

void add_weight_errors(const Tensor& w, const LinearParams& params, LayerReport& row,
                       const ExecContext& ctx);

void add_output_errors(const FileContract& contract, const LinearParams& params,
                       const InputStatistics& input, const Tensor& w, const TimestepPolicy& policy,
                       LayerReport& row, const ExecContext& ctx);

}  // namespace mezzotint
