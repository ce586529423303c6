// The table of weight_ops.h for one ISA. Included after that ISA's vec16.h, with MZ_ISA naming its
// namespace. Everything but the table has internal linkage.

#include <cstdint>

#include "kernels/mx_codes.inl"
#include "kernels/vec16_blocks.inl"
#include "kernels/weight_ops.h"
#include "numerics/mx.h"

namespace mezzotint::MZ_ISA {
namespace {

// --- integers ------------------------------------------------------------------------------------

inline void store_nearest(WholeBlock, int8_t* codes, Vec v) {
  store_int8(codes, nearest_integers(v));
}
inline void store_nearest(PartOfBlock part, int8_t* codes, Vec v) {
  int8_t lanes[kLanes];
  store_int8(lanes, nearest_integers(v));
  __builtin_memcpy(codes, lanes, static_cast<size_t>(part.count));
}

void integer_codes(const float* w, const IntegerGrid& grid, int8_t* codes, int64_t n) noexcept {
  for_each_block(n, [&](int64_t i, auto part) {
    const Vec v = load_lanes(part, w + i, 0.0f);
    const Vec t = v / splat(grid.scale) + splat(grid.zero);
    store_nearest(part, codes + i, max_of(splat(grid.low), min_of(splat(grid.high), t)));
  });
}

// --- MX blocks -----------------------------------------------------------------------------------

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

// 32 codes and the scale's byte.
template <Element kElement>
[[gnu::always_inline]] inline uint8_t encode_block(const WeightBlock& w, uint8_t* codes) {
  const float amax = amax_of(w);
  if (amax == 0.0f || !is_finite(amax)) {
    __builtin_memset(codes, 0, kMxBlock);
    return amax == 0.0f ? uint8_t{0} : kE8M0NaN;
  }
  const uint8_t byte = best_scale<kElement>(w, amax).byte;
  if constexpr (kMakesScaledCodes<kElement, Vec>) {
    store_scaled<kElement>(codes, w.lo, byte);
    store_scaled<kElement>(codes + kLanes, w.hi, byte);
  } else {
    const Vec reciprocal = splat(reciprocal_of(byte));
    store_elements<kElement>(codes, w.lo * reciprocal);
    store_elements<kElement>(codes + kLanes, w.hi * reciprocal);
  }
  return byte;
}

template <Element kElement>
void encode_row(const float* w, float outer, uint8_t* codes, uint8_t* block_scale, int64_t n) {
  for (int64_t k = 0; k < n; k += kMxBlock) {
    const WeightBlock block = load_weights(w, outer, k, n);
    if (k + kMxBlock <= n) {
      block_scale[k / kMxBlock] = encode_block<kElement>(block, codes + k);
      continue;
    }
    uint8_t whole[kMxBlock];
    block_scale[k / kMxBlock] = encode_block<kElement>(block, whole);
    __builtin_memcpy(codes + k, whole, static_cast<size_t>(n - k));
  }
}

void mx_codes(const float* w, Element element, float outer, uint8_t* codes, uint8_t* block_scale,
              int64_t n) noexcept {
  if (element == Element::kE2M1) {
    encode_row<Element::kE2M1>(w, outer, codes, block_scale, n);
  } else {
    encode_row<Element::kE4M3>(w, outer, codes, block_scale, n);
  }
}

template <Element kElement>
double row_error(const float* w, float outer, int64_t n) {
  double error = 0;
  for (int64_t k = 0; k < n; k += kMxBlock) {
    const WeightBlock block = load_weights(w, outer, k, n);
    const float amax = amax_of(block);
    if (amax == 0.0f || !is_finite(amax)) continue;
    const BestScale best = best_scale<kElement>(block, amax);
    const double scale = e8m0_to_float(best.byte);
    error += best.misses * scale * scale;
  }
  return error;
}

double mx_error(const float* w, Element element, float outer, int64_t n) noexcept {
  return element == Element::kE2M1 ? row_error<Element::kE2M1>(w, outer, n)
                                   : row_error<Element::kE4M3>(w, outer, n);
}

// --- what codes miss -----------------------------------------------------------------------------

void add_pairs(const float* x, const float* y, int64_t n, PairSums& sums) noexcept {
  Doubles exact = zero_doubles(), decoded = zero_doubles();
  Doubles product = zero_doubles(), noise = zero_doubles();
  Vec amax = splat(0.0f);
  int64_t values = 0;  // that are not 0
  for_each_block(n, [&](int64_t i, auto part) __attribute__((always_inline)) {
    const Vec a = load_lanes(part, x + i, 0.0f), b = load_lanes(part, y + i, 0.0f);
    const Vec miss = a - b;
    add_products(a, a, exact);
    add_products(b, b, decoded);
    add_products(a, b, product);
    add_products(miss, miss, noise);
    amax = max_magnitude(amax, magnitude(a));
    values += lanes_outside(b, splat(0.0f), splat(0.0f));
  });
  sums.exact += sum_doubles(exact);
  sums.decoded += sum_doubles(decoded);
  sums.product += sum_doubles(product);
  sums.noise += sum_doubles(noise);
  sums.zeros += n - values;
  const float largest = largest_lane(amax);
  sums.amax = largest > sums.amax ? largest : sums.amax;
}

int64_t count_outside(const float* x, const float* low, const float* high, int64_t width,
                      int64_t n) noexcept {
  int64_t count = 0;
  for (int64_t first = 0, group = 0; first < n; first += width, ++group) {
    const Vec least = splat(low[group]), most = splat(high[group]);
    const int64_t size = width < n - first ? width : n - first;
    for_each_block(size, [&](int64_t i, auto part) __attribute__((always_inline)) {
      count += lanes_outside(load_lanes(part, x + first + i, low[group]), least, most);
    });
  }
  return count;
}

float amax(const void* w, FloatType type, int64_t n) noexcept {
  Vec most = splat(0.0f);
  with_float_type(type, [&](auto tag) __attribute__((always_inline)) {
    for_each_block(n, [&](int64_t i, auto part) __attribute__((always_inline)) {
      most = max_magnitude(most, magnitude(load_as(tag, part, w, i)));
    });
  });
  return largest_lane(most);
}

}  // namespace

extern const WeightOps kWeightOps;
constinit const WeightOps kWeightOps = {.integer_codes = integer_codes,
                                        .mx_codes = mx_codes,
                                        .mx_error = mx_error,
                                        .add_pairs = add_pairs,
                                        .count_outside = count_outside,
                                        .amax = amax};

}  // namespace mezzotint::MZ_ISA
