// The scale of an MX block of weights: of three exponents the one that leaves the least. Included
// after an ISA's vec16.h, with MZ_ISA naming its namespace; guarded because weight_ops.inl and
// mx_misses.inl use it.
#ifndef MEZZOTINT_KERNELS_MX_SEARCH_INL_
#define MEZZOTINT_KERNELS_MX_SEARCH_INL_

#include <cstdint>

#include "kernels/vec16_blocks.inl"
#include "numerics/mx.h"

namespace mezzotint::MZ_ISA {
namespace {

struct WeightBlock {
  Vec lo, hi;
};
static_assert(kMxBlock == 2 * kLanes);

// Of w / outer, from k on; zeros behind n.
[[gnu::always_inline]] inline WeightBlock load_weights(const float* w, float outer, int64_t k,
                                                       int64_t n) {
  const auto half = [&](int64_t first) __attribute__((always_inline)) {
    // Two to four divisions a vector take as long as the search.
    if (!kOneRegister && outer == 1.0f && first + kLanes <= n) return load(w + first);
    if (first + kLanes <= n) return load_lanes(WholeBlock{}, w + first, 0.0f) / splat(outer);
    if (first < n) return load_lanes(PartOfBlock{n - first}, w + first, 0.0f) / splat(outer);
    return splat(0.0f);
  };
  return {half(k), half(k + kLanes)};
}

// The nearest element of magnitudes, saturating. For t of [2^e, 2^(e+1)), e no less than that of
// the smallest normal number, one unit is 2^(e-1) or 2^(e-3), the last place of 1.5 * 2^(e+22) or
// 1.5 * 2^(e+20): adding that rounds.
template <Element kElement>
constexpr float kLargestElement = kElement == Element::kE4M3 ? kE4M3Max : kE2M1Max;
template <Element kElement>
[[gnu::always_inline]] inline Vec nearest_element(Vec t) {
  constexpr bool kIsE4M3 = kElement == Element::kE4M3;
  const Vec limited = min_of(t, splat(kLargestElement<kElement>));
  const Vec binade = max_of(splat(kIsE4M3 ? 0x1p-6f : 1.0f), exponent_part(limited));
  const Vec unit_place = binade * splat(kIsE4M3 ? 0x1.8p20f : 0x1.8p22f);
  return (limited + unit_place) - unit_place;
}

[[gnu::always_inline]] inline float reciprocal_of(uint8_t byte) {
  return e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - byte));
}

// What codes under this scale miss, squared and summed, in units of its square. The misses
// themselves are exact: t and its neighbour have a difference that is a float.
template <Element kElement>
[[gnu::always_inline]] inline float squared_misses(const WeightBlock& w, uint8_t byte) {
  const Vec reciprocal = splat(reciprocal_of(byte));
  const auto squares = [&](Vec v) __attribute__((always_inline)) {
    const Vec t = magnitude(v * reciprocal);
    const Vec miss = nearest_element<kElement>(t) - t;
    return miss * miss;
  };
  return sum_lanes(squares(w.lo) + squares(w.hi));
}

struct BestScale {
  uint8_t byte;
  float misses;  // in units of the scale's square
};

// Whether a neighbour of the floor rule's scale may leave less than the latter's codes miss. (One
// register is searched as fast as it is decided.)
// `largest` is amax in units of that scale. Of sums in the same order none is less that has no
// square less, and none is less than one of its squares.
//
// Half the scale misses of amax alone what lies above half of the largest element.
template <Element kElement>
[[gnu::always_inline]] inline bool half_may_win(float largest, float misses) {
  const float saturated = largest - kLargestElement<kElement> * 0.5f;
  return saturated * saturated < misses;
}
// Where nothing saturates, the elements under twice the scale are some of those under the scale.
// Squares below the floats, which make the sums differ in their last place, are tried.
template <Element kElement>
[[gnu::always_inline]] inline bool twice_may_win(float largest, float misses) {
  constexpr float kNoSmallSquares = 0x1p-60f;
  return largest > kLargestElement<kElement> || (misses > 0.0f && misses < kNoSmallSquares);
}

// amax is positive and finite.
template <Element kElement>
[[gnu::always_inline]] inline BestScale best_scale(const WeightBlock& w, float amax) {
  const uint8_t byte = mx_scale_byte(amax, kElement, MxScaleRule::kFloor, kExporterCeilX);
  BestScale best = {byte, squared_misses<kElement>(w, byte)};
  float least = best.misses;  // in units of the floor rule's scale, squared
  const float largest = kOneRegister ? 0.0f : amax * reciprocal_of(byte);
  if (byte > 0 && (kOneRegister || half_may_win<kElement>(largest, least))) {
    const auto below = static_cast<uint8_t>(byte - 1);
    const float misses = squared_misses<kElement>(w, below);
    if (misses * 0.25f < least) {
      best = {below, misses};
      least = misses * 0.25f;
    }
  }
  if (byte < kE8M0Max && (kOneRegister || twice_may_win<kElement>(largest, least))) {
    const auto above = static_cast<uint8_t>(byte + 1);
    const float misses = squared_misses<kElement>(w, above);
    if (misses * 4.0f < least) best = {above, misses};
  }
  return best;
}

[[gnu::always_inline]] inline float amax_of(const WeightBlock& w) {
  return largest_lane(max_magnitude(magnitude(w.lo), magnitude(w.hi)));
}

}  // namespace
}  // namespace mezzotint::MZ_ISA

#endif  // MEZZOTINT_KERNELS_MX_SEARCH_INL_
