#include "collect/step_check.h"

#include <string>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {

void check_step(std::string_view layer, int step, int64_t steps) {
  if (step >= 0 && step < steps) return;
  throw Error(ErrorCode::kUsage, "a step outside of the run that statistics are for",
              {.layer = std::string(layer),
               .expected = fmt::format("0 to {}", steps - 1),
               .found = std::to_string(step),
               .fix = "run the model with ExecContext::at_step"});
}

}  // namespace mezzotint
