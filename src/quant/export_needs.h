// What an export is going to need: memory from shapes alone, time from a trial.
#pragma once

#include <cstdint>
#include <string>

#include "mezzotint/context.h"
#include "mezzotint/quantize.h"
#include "quant/export_plan.h"

namespace mezzotint {

struct MemoryNeeds {
  int64_t bytes = 0;  // resident at most: one layer at a time, and the program itself
  std::string layer;  // that needs it
};
MemoryNeeds memory_needs(const ExportPlan& plan, const WeightStore& source,
                         const ExportOptions& options, int threads);

// Throws Error(kResources), naming the layer and what to do, when that is more than
// options.max_memory_bytes allows.
void require_memory(const MemoryNeeds& needs, const ExportOptions& options);

// Seconds of quantizing on the threads of ctx, reading and writing left out: rows of a layer of
// every algorithm and K are quantized, and what statistics add is counted in operations. The
// machine's load is in it. A few seconds at most.
double estimated_seconds(const ExportPlan& plan, const WeightStore& source,
                         const ExportOptions& options, const ExecContext& ctx);

}  // namespace mezzotint
