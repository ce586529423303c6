// The input of one linear, or of a group, in the forms that kernels read: made once per distinct
// form, kept in scratch memory until the call ends.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
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

// How one call reads x: a plan, resolved for its denoising step.
struct InputForm {
  ActivationForm kind = ActivationForm::kFloat;
  QuantScheme scheme{};                // of the codes
  std::optional<StaticScale> fixed{};  // kInt8Rows: given by the file, not measured
  std::span<const float> mul_scale{};  // [k], or empty
  Compat compat = Compat::kNone;       // kUpstream: rounded as there, by the reference rows
};

class LinearInput {
 public:
  LinearInput(const ConstMatrix& x, const ExecContext& ctx) : x_(x), ctx_(ctx) {}

  // Fills the x fields of `tile`. Linears that agree on the form share it.
  void fill(const InputForm& wanted, Isa isa, LinearTile& tile);

  const ConstMatrix& matrix() const { return x_; }

 private:
  struct Made {
    InputForm form;
    Scratch values;  // codes, or smoothed f32
    Scratch scale;   // f32 per row; MX: e8m0 per block
    Scratch extra;   // sums of codes; dual level: f32 per 512
  };

  const Made& made(const InputForm& wanted, Isa isa);
  void quantize(Made& made, Isa isa) const;
  void quantize_mx(Made& made, Isa isa) const;
  void smooth(Made& made, Isa isa) const;

  ConstMatrix x_;
  const ExecContext& ctx_;
  std::deque<Made> made_;
};

}  // namespace mezzotint
