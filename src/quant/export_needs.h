// What an export is going to need: memory from shapes alone, time from a trial.
#pragma once

#include <cstdint>
#include <string>

#include "mezzotint/context.h"
#include "mezzotint/quantize.h"
#include "quant/export_plan.h"

namespace mezzotint {

// How far an export reads ahead of the layer that is quantized, and writes behind it: bytes, but at
// least one tensor. A large one takes as long to read, or to measure and write, as small ones take
// to be quantized, three of a block of a transformer.
struct InFlight {
  int64_t ahead = 0;
  int64_t behind = 0;  // of the source, and what was made of it
  int64_t reuse = 0;   // of memory that waits for the next ones (BufferReuse)
};
inline constexpr InFlight kLargeInFlight = {
    .ahead = int64_t{192} << 20, .behind = int64_t{256} << 20, .reuse = int64_t{256} << 20};

struct MemoryNeeds {
  int64_t bytes = 0;   // resident at most: the layers in flight, and the program itself
  std::string layer;   // that needs it
  InFlight in_flight;  // less, down to one by one, where more is over options.max_memory_bytes
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
