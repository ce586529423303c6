// Which denoising steps of a W8A8_TIMESTEP layer run with the file's static scales.
//
//   TimestepPolicy policy;
//   policy.set(25, 49, StepMode::kStatic);      // steps 25..49; all others stay dynamic
//   quantize(model.modules(), "flux-w8a8-timestep", {.timestep_policy = policy}, ctx);
//   linear.run(x, y, ctx.at_step(30));          // static
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/export.h"

namespace mezzotint {

enum class StepMode : unsigned char { kDynamic, kStatic };

class MZ_API TimestepPolicy {
 public:
  TimestepPolicy() = default;
  explicit TimestepPolicy(StepMode otherwise) : otherwise_(otherwise) {}

  // Steps first..last, both included; a later call wins. Throws Error(kUsage) unless
  // 0 <= first <= last.
  void set(int first, int last, StepMode mode);

  // Of a step that no call named, and of no step (-1): the default.
  StepMode at(int step) const noexcept;

  // The form in which a descriptor keeps a policy: "static 0-3,25-49", "dynamic 0-24" (all other
  // steps static) or "dynamic". parse() throws Error(kInput).
  std::string text() const;
  static TimestepPolicy parse(std::string_view text);

  bool operator==(const TimestepPolicy&) const = default;

 private:
  struct Range {
    int first;
    int last;
    StepMode mode;
    bool operator==(const Range&) const = default;
  };
  std::vector<Range> ranges_;
  StepMode otherwise_ = StepMode::kDynamic;
};

}  // namespace mezzotint
