// What a quantized Attention holds. Immutable once built.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/cpu_features.h"
#include "mezzotint/attention.h"
#include "mezzotint/tensor.h"
#include "quant/difference.h"
#include "solve/hadamard.h"

namespace mezzotint {

struct AttentionState {
  std::string algorithm;  // "FP8_DYNAMIC"
  Tensor q_rot;           // F32 [head_dim,head_dim]: q becomes q q_rot
  Tensor k_rot;
  // Where they are a Hadamard matrix with signs; else null.
  std::optional<HadamardFactors> q_factors;
  std::optional<HadamardFactors> k_factors;
  // Numerators of the softmax are multiplied by it before they become e4m3: 1, the device's, or
  // 448, which keeps those below 2^-10 of the largest (docs/numerics.md compares them).
  float p_scale = 1.0f;
  Isa isa = Isa::kPortable;  // ceiling that rows are chosen under
  // Where this is set the slot stays float: run() makes both outputs, gives back the float ones and
  // tells how far the others are from them. For collectors.
  std::function<void(const Difference& outputs, int step)> compared{};
};

// q_rot and k_rot of any float dtype, [head_dim,head_dim], both alike. Throws Error(kUsage) on
// another shape, or on a p_scale that is not a positive number.
std::shared_ptr<const AttentionState> make_fp8_attention_state(const Tensor& q_rot,
                                                               const Tensor& k_rot, float p_scale,
                                                               Isa isa);

}  // namespace mezzotint
