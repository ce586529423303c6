// A timestep policy as parts of a run, for any number of steps.
//
//   const StepShare early = {.mode = StepMode::kDynamic, .first = 0.0, .last = 0.5};
//   policy_of_shares({{early, {StepMode::kStatic, 0.5, 1.0}}}, 20);     // "static 10-19"
#pragma once

#include <span>
#include <string_view>

#include "mezzotint/timestep.h"

namespace mezzotint {

// Of the denoising steps of a run, in their order: 0 is the begin of the first, 1 the end of the
// last.
struct StepShare {
  StepMode mode = StepMode::kDynamic;
  double first = 0;
  double last = 1;
  bool operator==(const StepShare&) const = default;
};

// "0.25..0.5". Throws Error(kInput) unless 0 <= first <= last <= 1.
StepShare parse_step_share(StepMode mode, std::string_view text);

// A step follows the last share that its middle lies in; without one it is dynamic.
TimestepPolicy policy_of_shares(std::span<const StepShare> shares, int64_t steps);

}  // namespace mezzotint
