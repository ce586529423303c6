// Scales that move the range of activations into weights: x' = x * m, w' = w / m.
//
//   s = A^alpha / W^beta,  m = 1 / s
//
// A: magnitude of an input's channels, W: of the weights that read them. SmoothQuant (Xiao et al.,
// 2022) takes the largest magnitudes and alpha + beta = 1, AWQ (Lin et al., 2023) mean magnitudes
// and beta = 0. Pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

enum class MultiplierGrid : uint8_t {
  kBf16,
  kPowersOfTwo,  // exact in x and w: MX blocks change their exponents only
};

struct SmoothingExponents {
  double input = 0;   // alpha
  double weight = 0;  // beta
  bool operator==(const SmoothingExponents&) const = default;
};

// (0,0), then for i = 1 ... 19 (i/20, 0) and (i/20, 1 - i/20): deepcompressor's grid.
std::vector<SmoothingExponents> smoothing_candidates();
// (i/20, 0) for i = 0 ... 19: AWQ's.
std::vector<SmoothingExponents> awq_candidates();

// m:[k], as files hold it: rounded to the grid. Channels that are zero in either have m = 1; the
// others' geometric mean is about 1 and m lies in [1e-4, 1e4].
std::vector<float> smoothing_multipliers(std::span<const float> input,
                                         std::span<const float> weight,
                                         const SmoothingExponents& exponents, MultiplierGrid grid);

struct SmoothingChoice {
  SmoothingExponents exponents{};
  std::vector<float> multipliers{};
  double error = 0;
};

// The candidate with the least error, the first of equals. `error` says what multipliers cost.
SmoothingChoice search_smoothing(
    std::span<const float> input, std::span<const float> weight,
    std::span<const SmoothingExponents> candidates, MultiplierGrid grid,
    const std::function<double(std::span<const float> multipliers)>& error);

// The largest magnitude of every column of w:[n,k].
std::vector<float> column_amax(const Tensor& w, const ExecContext& ctx);

// w / m, F32 [n,k].
Tensor divided_columns(const Tensor& w, std::span<const float> multipliers, const ExecContext& ctx);

// X'^T X' of x' = x * m from X^T X: F32 [k,k].
Tensor smoothed_gram(const Tensor& gram, std::span<const float> multipliers,
                     const ExecContext& ctx);

}  // namespace mezzotint
