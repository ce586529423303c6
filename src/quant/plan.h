// LinearPlan: everything a linear does, as plain data without pointers.
#pragma once

#include <cstdint>
#include <string>

#include "mezzotint/tensor.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

enum class Prologue : uint8_t { kNone, kSmooth };          // smooth: x * mul_scale[k] in f32
enum class ActivationMode : uint8_t { kFloat, kDynamic };  // how x is quantized, if at all

struct LinearPlan {
  int64_t n = 0;
  int64_t k = 0;
  Prologue prologue = Prologue::kNone;
  ActivationMode activation_mode = ActivationMode::kFloat;
  QuantScheme activation;  // kDynamic: element and granularity of the codes
  QuantScheme weight;
  bool has_bias = false;

  bool operator==(const LinearPlan&) const = default;
};

// One linear as a file holds it, checked and widened: codes [n,k] row-major in the file's dtype,
// the rest F32. Empty tensors are absent.
struct LinearParams {
  LinearPlan plan;
  std::string algorithm;
  Tensor codes;         // [n,k] I8, or F32/BF16/F16 for a float plan
  Tensor weight_scale;  // F32 [n]
  Tensor mul_scale;     // F32 [k]
  Tensor bias;          // F32 [n]
};

}  // namespace mezzotint
