// What upstream's loader makes of the same files, where that is not what ours does: the whole of
// QuantizeOptions::compat but for the roundings (numerics/upstream.h). docs/compatibility.md lists
// it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "mezzotint/descriptor.h"
#include "quant/plan.h"

namespace mezzotint {

// Throws for files that upstream refuses and we read: modes beyond 0640, links, a name with a rank
// where no rank is given, a model_quant_type in another spelling.
void check_upstream_files(const std::filesystem::path& given, const QuantizedFiles& files,
                          std::optional<int> rank);

enum class UpstreamReading : uint8_t {
  kApplied,
  kLeftFloat,  // a name of its document that its loader does not serve
  kIgnored,    // no name it knows
};
UpstreamReading upstream_reading(std::string_view label);

// Takes out of a layer what upstream stores and does not compute with, and marks the plan. Returns
// the names of what was there: "bias, div.mul_scale"; "" when nothing.
std::string leave_out_like_upstream(LinearParams& params);

}  // namespace mezzotint
