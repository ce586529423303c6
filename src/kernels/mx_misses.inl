// take_mx_misses of mx_misses.h for one ISA. Included after that ISA's vec16.h, with MZ_ISA naming
// its namespace.

#include <cstdint>

#include "kernels/mx_misses.h"
#include "kernels/mx_search.inl"
#include "kernels/vec16_blocks.inl"
#include "numerics/e8m0.h"
#include "numerics/rounding.h"

namespace mezzotint::MZ_ISA {
namespace {

// Replaces the block; the sum of squares. The value of a code is exact, and so is its difference
// from a weight that is no denormal number.
template <Element kElement>
[[gnu::always_inline]] inline double take_misses(WeightBlock& w) {
  const float amax = amax_of(w);
  if (amax == 0.0f) return 0.0;
  if (!is_finite(amax)) {
    w = {splat(kQuietNaN), splat(kQuietNaN)};
    return kQuietNaN;
  }
  const BestScale best = best_scale<kElement>(w, amax);
  const float scale = e8m0_to_float(best.byte);
  const Vec reciprocal = splat(reciprocal_of(best.byte)), unit = splat(scale);
  const Vec lowest = splat(-kLargestElement<kElement>);
  const auto miss = [&](Vec v) __attribute__((always_inline)) {
    return v - nearest_element<kElement>(max_of(lowest, v * reciprocal)) * unit;
  };
  w = {miss(w.lo), miss(w.hi)};
  return best.misses * double{scale} * scale;
}

// What row_error sums, in its order.
template <Element kElement>
double misses_of_row(float* w, int64_t n) {
  double squares = 0;
  int64_t k = 0;
  for (; k + kMxBlock <= n; k += kMxBlock) {
    WeightBlock block = {load(w + k), load(w + k + kLanes)};
    squares += take_misses<kElement>(block);
    store(w + k, block.lo);
    store(w + k + kLanes, block.hi);
  }
  if (k == n) return squares;
  float rest[kMxBlock] = {};
  __builtin_memcpy(rest, w + k, static_cast<size_t>(n - k) * sizeof(float));
  squares += misses_of_row<kElement>(rest, kMxBlock);
  __builtin_memcpy(w + k, rest, static_cast<size_t>(n - k) * sizeof(float));
  return squares;
}

}  // namespace

double take_mx_misses(float* w, Element element, int64_t n) noexcept {
  return element == Element::kE2M1 ? misses_of_row<Element::kE2M1>(w, n)
                                   : misses_of_row<Element::kE4M3>(w, n);
}

}  // namespace mezzotint::MZ_ISA
