// The float matrix a quantized layer stands for: E:[n,k] with y = x E^T + b before x is quantized.
#pragma once

#include <cstdint>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "quant/plan.h"
#include "solve/panelled_matrix.h"

namespace mezzotint {

// Threads may share one. Rows are written into spans of whole rows, from `first` on.
class EffectiveWeight {
 public:
  explicit EffectiveWeight(const LinearParams& params);  // which outlive this

  // Smoothing folded in: E[i,k] = code * scale[i] * mul_scale[k], in f32, in this order, and the
  // low-rank branch where it is read.
  void rows(int64_t first, std::span<float> out) const;

  // The parts. Code times scale: what meets the rounded x * mul_scale; and up[i] down.
  void codes(int64_t first, std::span<float> out) const;
  void branch(int64_t first, std::span<float> out) const;

  // E of its parts; the result is in `codes`. An empty branch is none.
  void combine(std::span<float> codes, std::span<const float> branch) const;

 private:
  int64_t row_count(std::span<const float> rows) const;

  const LinearParams& params_;
  // Of a low-rank branch.
  Tensor up_;  // F32
  PanelledMatrix down_;
};

// Code times scale, all rows: F32 [n,k].
Tensor code_values(const LinearParams& params, const ExecContext& ctx);

// The weight scale of a static file, whose first step says it: deq_scale = input_scale *
// weight_scale.
float folded_scale(const LinearParams& params, int64_t row);

}  // namespace mezzotint
