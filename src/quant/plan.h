// LinearPlan: everything a linear does, as plain data without pointers.
#pragma once

#include <cstdint>
#include <string>

#include "mezzotint/compat.h"
#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

enum class Prologue : uint8_t { kNone, kSmooth };  // smooth: x * mul_scale[k] in f32

// How x is quantized, if at all.
enum class ActivationMode : uint8_t {
  kFloat,
  kDynamic,  // scales are measured
  kStatic,   // scale and zero point come from the file
  kPolicy,   // static or dynamic, by the denoising step
};

// What the low-rank branch reads: x * mul_scale, or x as the caller gave it.
enum class BranchInput : uint8_t { kSmoothed, kGiven };

struct LinearPlan {
  int64_t n = 0;
  int64_t k = 0;
  Prologue prologue = Prologue::kNone;
  ActivationMode activation_mode = ActivationMode::kFloat;
  QuantScheme activation;  // element and granularity of the codes of x
  QuantScheme weight;
  int64_t steps = 0;  // rows of the static tables; kPolicy: calibrated denoising steps
  int64_t rank = 0;   // of the low-rank branch; 0: none
  BranchInput branch_input = BranchInput::kSmoothed;
  bool has_bias = false;
  Compat compat = Compat::kNone;  // whose roundings; kUpstream takes reference rows

  bool operator==(const LinearPlan&) const = default;
};

// One linear as a file holds it, checked, in one form whatever the file's encoding. Empty tensors
// are absent.
//   y = x' w^T + (x' down^T) up^T + bias,  x' = x * mul_scale; see also BranchInput
struct LinearParams {
  LinearPlan plan;
  std::string algorithm;
  // [n,k] I8, F8_E4M3 or a float dtype; int4 and e2m1: U8 [n,(k+1)/2], low nibble = even k.
  Tensor codes;
  Tensor weight_scale;   // F32 [n], or [n,groups]
  Tensor weight_offset;  // F32, like weight_scale: w = (code - offset) * scale
  Tensor block_scale;    // U8 e8m0 [n,mx_blocks(k)]
  Tensor dual_scale;     // F32 [n,dual_blocks(k)]
  Tensor mul_scale;      // F32 [k]
  Tensor bias;           // F32 [n]
  Tensor input_scale;    // F32 [steps]
  Tensor input_offset;   // F32 [steps], integers: q = rne(x / scale + offset)
  Tensor quant_bias;     // I32 [steps,n], added to the integer sum; holds the bias
  Tensor deq_scale;      // F32 [steps,n] input_scale * weight_scale
  Tensor low_rank_down;  // any float dtype [rank,k]
  Tensor low_rank_up;    // any float dtype [n,rank]
};

// One attention as a file holds it, checked. Scores do not change: q_rot k_rot^T = I.
struct AttentionParams {
  std::string algorithm;
  Tensor q_rot;  // any float dtype [head_dim,head_dim]: q becomes q q_rot
  Tensor k_rot;
};

}  // namespace mezzotint
