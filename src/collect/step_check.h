// A step of the run that statistics are for.
#pragma once

#include <cstdint>
#include <string_view>

namespace mezzotint {

// Throws Error(kUsage), naming the layer, unless 0 <= step < steps.
void check_step(std::string_view layer, int step, int64_t steps);

}  // namespace mezzotint
