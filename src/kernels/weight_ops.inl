// The table of weight_ops.h for one ISA. Included after that ISA's vec16.h, with MZ_ISA naming its
// namespace. Everything but the table has internal linkage.

#include <cstdint>

#include "kernels/mx_codes.inl"
#include "kernels/mx_search.inl"
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
