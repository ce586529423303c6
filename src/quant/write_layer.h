// A float layer into the tensors of a file: the steps between solve/ and the contracts.
#pragma once

#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "numerics/affine.h"
#include "quant/algorithm.h"
#include "solve/low_rank.h"

namespace mezzotint {

inline constexpr int kAlternatingSteps = 8;  // of calibrated low-rank branches

// Whether all of a weight without its branch, F32, is in memory at once: for alternating steps,
// solvers that go on with it and a scale of all rows. Else kResidualRows of it are.
bool holds_residual(const AlgorithmRow& row, HasStatistics statistics);
inline constexpr int64_t kResidualRows = 192;  // of 13,824 floats: 10 MiB, for the L3

// How alternating steps round.
RoundedBy rounded_by(const AlgorithmRow& row, Compat compat);

// Codes and scales of w:[n,k] rounded to nearest as the algorithm would, without smoothing, low
// rank or statistics.
LinearParams nearest_params(const AlgorithmRow& row, const Tensor& w, const WriteOptions& options,
                            const ExecContext& ctx);
// The values they stand for: F32 [n,k].
Tensor rounded_weight(const AlgorithmRow& row, const Tensor& w, const WriteOptions& options,
                      const ExecContext& ctx);

// Codes and weight scales in `params` become those of a static layer: input_scale, input_offset,
// deq_scale and quant_bias, one row for each of `scales`. A scale that is too small for the bias to
// fit 32-bit sums is raised.
void make_static(const std::vector<AffineParams>& scales, LinearParams& params);

}  // namespace mezzotint
