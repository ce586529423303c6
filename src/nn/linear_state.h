// What a Linear holds: its plan, one packed weight and small float vectors. Immutable once built.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/registry.h"
#include "mezzotint/linear.h"
#include "mezzotint/tensor.h"
#include "mezzotint/timestep.h"
#include "quant/plan.h"

namespace mezzotint {

struct LinearState {
  LinearPlan plan;
  std::string algorithm;  // label, or "FLOAT"
  Buffer blob;            // packed weight (kernels/registry.h)
  // As in LinearParams (quant/plan.h).
  Tensor weight_scale;
  Tensor weight_offset;
  Tensor block_scale;
  Tensor dual_scale;
  Tensor mul_scale;
  Tensor bias;
  Tensor input_scale;
  Tensor input_offset;
  Tensor quant_bias;
  Tensor deq_scale;
  // The low-rank branch: float linears [rank,k] and [n,rank], or null.
  std::shared_ptr<const LinearState> low_rank_down;
  std::shared_ptr<const LinearState> low_rank_up;
  // An adapter's branch of the same form (LoRA), or null: y += (x down^T) up^T with x as given. It
  // comes and goes without the weight, and no file of the layer holds it.
  std::shared_ptr<const LinearState> adapter_down;
  std::shared_ptr<const LinearState> adapter_up;
  TimestepPolicy policy;     // kPolicy only
  Isa isa = Isa::kPortable;  // ceiling that rows are chosen under
};

// A float linear. weight:[n,k] F32, BF16 or F16; bias:[n] of any float dtype. Throws Error naming
// the layer.
LinearParams float_params(const std::string& name, const Tensor& weight,
                          const std::optional<Tensor>& bias);

// Packs what a file holds. `params` comes from read_layer_params (quant/algorithm.h).
std::shared_ptr<const LinearState> make_linear_state(const LinearParams& params, Isa isa,
                                                     const TimestepPolicy& policy = {});

// The inverse: what a file holds, from what was packed.
LinearParams params_of(const LinearState& state);

// A low-rank factor: a float linear without bias. Null for an empty tensor.
std::shared_ptr<const LinearState> factor_state(const Tensor& factor, Isa isa);

int64_t resident_bytes(const LinearState& state);

}  // namespace mezzotint
