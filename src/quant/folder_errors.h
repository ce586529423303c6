// What a quantized folder makes of the float model it is of, layer by layer, without the export.
#pragma once

#include <filesystem>

#include "mezzotint/context.h"
#include "mezzotint/report.h"
#include "mezzotint/weights.h"

namespace mezzotint {

// Fills in the errors of weights in `report`'s rows of this folder and, where `statistics` (of
// `collect`, of this model) is not empty, those of outputs. Layers that the float model lacks or
// holds in another shape stay unknown. One layer is in memory at a time.
void add_errors(const WeightStore& floats, const std::filesystem::path& folder,
                const std::filesystem::path& statistics, Report& report, const ExecContext& ctx);

}  // namespace mezzotint
