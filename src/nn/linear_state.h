// What a Linear holds: its plan, one packed weight and small float vectors. Immutable once built.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/registry.h"
#include "mezzotint/linear.h"
#include "mezzotint/tensor.h"
#include "quant/plan.h"

namespace mezzotint {

struct LinearState {
  LinearPlan plan;
  std::string algorithm;     // label, or "FLOAT"
  Buffer blob;               // packed weight (kernels/registry.h)
  Tensor weight_scale;       // F32 [n]; empty for float weights
  Tensor mul_scale;          // F32 [k]; empty without smoothing
  Tensor bias;               // F32 [n]; empty without bias
  Isa isa = Isa::kPortable;  // ceiling that rows are chosen under
};

// A float linear. weight:[n,k] F32, BF16 or F16; bias:[n] of any float dtype. Throws Error naming
// the layer.
LinearParams float_params(const std::string& name, const Tensor& weight,
                          const std::optional<Tensor>& bias);

// Packs what a file holds. `params` comes from a contract's read (quant/algorithm.h).
std::shared_ptr<const LinearState> make_linear_state(const LinearParams& params, Isa isa);

}  // namespace mezzotint
