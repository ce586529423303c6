// The input of one linear, or of a group, in the forms that kernels read: made once per distinct
// form, kept in scratch memory until the call ends.
#pragma once

#include <cstdint>
#include <deque>
#include <span>

#include "base/cpu_features.h"
#include "base/workspace.h"
#include "kernels/ops.h"
#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "quant/plan.h"

namespace mezzotint {

FloatType float_type_of(DType dtype);  // F32, BF16 or F16; MZ_CHECKs

// How a plan reads x.
ActivationForm activation_form(const LinearPlan& plan);

class LinearInput {
 public:
  LinearInput(const ConstMatrix& x, const ExecContext& ctx) : x_(x), ctx_(ctx) {}

  // Fills the x fields of `tile` for a plan with these smoothing factors ([k], or empty). Plans
  // that agree on the form share it.
  void fill(const LinearPlan& plan, std::span<const float> mul_scale, Isa isa, LinearTile& tile);

 private:
  struct Form {
    ActivationForm kind;
    QuantScheme scheme;
    std::span<const float> mul_scale;
    Scratch values;  // codes, or smoothed f32
    Scratch scale;
    Scratch sum;
  };

  const Form& form(const LinearPlan& plan, std::span<const float> mul_scale, Isa isa);
  void quantize(Form& form, Isa isa) const;
  void smooth(Form& form) const;

  ConstMatrix x_;
  const ExecContext& ctx_;
  std::deque<Form> forms_;
};

}  // namespace mezzotint
