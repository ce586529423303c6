// GPTQ: weights rounded one column after another, each making up for the errors before it, so that
// || X (W - Q)^T || and not || W - Q || is small.
//
//   GptqFactor factor = factor_gram(gram, {.rows = tokens});
//   Tensor codes = gptq_codes(w, grid, factor, ctx);      // scales of the grid stay as they are
//
// Frantar et al., "GPTQ", 2022. The inverse Hessian is never formed: with H = R R^T, R upper
// triangular (one Cholesky factorization of the reversed matrix), the error feedback
//   q_k = Q(w_k + sum_{i<k} (w_i - q_i) R_ik / R_kk)
// gives the same codes (Chee et al., "QuIP", 2023, theorem 6). Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "mezzotint/context.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

enum class ColumnOrder : uint8_t {
  kStored,
  kByEnergy,  // columns with large inputs first; groups keep their scales ("static groups")
};

struct GptqOptions {
  int64_t rows = 0;  // of x that the Gram matrix sums; decides the damping
  ColumnOrder order = ColumnOrder::kStored;
};

struct GptqFactor {
  Tensor feedback;             // F32 [k,k]: R_ij / R_jj for i < j, in `order`; else 0
  std::vector<int64_t> order;  // column of w that is solved i-th
  double damping = 0;          // share of the diagonal's mean that was added to it
  bool diagonal_only = false;  // no factorization succeeded: plain rounding
};

// What is added to the diagonal: more for few rows.
double gptq_damping(int64_t rows, int64_t k);

// gram: F32 [k,k], symmetric. Channels without energy get the mean
// energy and no coupling: they are rounded to nearest. Where the factorization fails the damping
// grows tenfold up to 1, then the diagonal alone is taken. Throws Error(kInput) for a value that is
// not finite. Memory: one copy of gram.
GptqFactor factor_gram(const Tensor& gram, const GptqOptions& options);

// Codes of w:[n,k] (any float dtype) on the grid, whose codes are not read: I8 [n,k], F8_E4M3
// [n,k], or U8 [n,(k+1)/2] of four-bit codes. The same for any number of threads.
Tensor gptq_codes(const Tensor& w, const WeightView& grid, const GptqFactor& factor,
                  const ExecContext& ctx);

}  // namespace mezzotint
