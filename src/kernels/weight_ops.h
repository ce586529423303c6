// Quantizers of weights, one run of a row at a time: what export and its solvers round with, and
// the sums that tell what became of a weight.
//
//   const WeightOps& ops = weight_ops(active_isa());
//   ops.mx_codes(row, Element::kE2M1, 1.0f, codes, block_scale, k);
//
// The formulas are numerics/, codes and scales equal to the last bit. One source (weight_ops.inl)
// is compiled for each ISA, and every table gives the same bits. Weights are finite, but for the MX
// ops. The tables are constant and the ops have no state.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// code = clamp(rne(w / scale + zero), low, high): int8_code, int4_code and affine_code of numerics.
struct IntegerGrid {
  float scale = 1.0f;
  float zero = 0.0f;
  float low = 0.0f, high = 0.0f;
};

// Of pairs (x, y) of floats.
struct PairSums {
  double exact = 0;    // x^2
  double decoded = 0;  // y^2
  double product = 0;  // x y
  double noise = 0;    // (x - y)^2, the difference rounded to float
  float amax = 0;      // the largest |x|
  int64_t zeros = 0;   // y that are 0
};

struct WeightOps {
  void (*integer_codes)(const float* w, const IntegerGrid& grid, int8_t* codes, int64_t n) noexcept;

  // MX blocks of w / outer (numerics/dual_level.h; outer 1: of w), elements half to even: per 32
  // the exponent e of the floor rule, e - 1 or e + 1, whichever leaves the least squared error, the
  // first of equals in that order; the sums are floats. A block of zeros has byte 0 and codes 0.
  // element kE2M1 or kE4M3; one code per byte, block_scale:[mx_blocks(n)].
  void (*mx_codes)(const float* w, Element element, float outer, uint8_t* codes,
                   uint8_t* block_scale, int64_t n) noexcept;
  // The squared error that those codes leave of w / outer.
  double (*mx_error)(const float* w, Element element, float outer, int64_t n) noexcept;

  // Adds to the sums, in double; n pairs in the order of 16 lanes.
  void (*add_pairs)(const float* x, const float* y, int64_t n, PairSums& sums) noexcept;
  // How many of each group of `width` are below its low or above its high; low <= high.
  int64_t (*count_outside)(const float* x, const float* low, const float* high, int64_t width,
                           int64_t n) noexcept;
  // The largest |w|; NaN when there is one.
  float (*amax)(const void* w, FloatType type, int64_t n) noexcept;
};

const WeightOps& weight_ops(Isa isa);  // the best table at or below isa

}  // namespace mezzotint
