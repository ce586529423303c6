// The table of float_ops.h for one ISA. Included after that ISA's vec16.h, with MZ_ISA naming its
// namespace. Everything but the table has internal linkage.

#include <cstdint>

#include "kernels/exp2_polynomial.h"
#include "kernels/float_ops.h"
#include "kernels/vec16_blocks.inl"

namespace mezzotint::MZ_ISA {
namespace {

// e^x, or e^(x + lo) with lo at most an ulp of x: Cephes expf (Moshier, 1992). x = n ln 2 + r,
// |r| <= 0.35; ln 2 in two parts, of which the first has 9 bits, so that n * kLn2Hi is exact. Below
// 1.5 ulp; underflows gradually, overflows to infinity, keeps NaN. The polynomial is cut in pairs,
// as what limits is how long an element waits for itself: some 130 instructions are in flight on
// Zen 4, three elements of gelu.
template <typename... Lo>
inline Vec exp_of(Vec x, Lo... lo) {
  constexpr float kLowest = -104.0f;  // e^-104 < 2^-150 rounds to 0
  constexpr float kHighest = 89.0f;   // e^89 > the largest float
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2Hi = 0.693359375f;
  constexpr float kLn2Lo = -2.12194440e-4f;
  const Vec t = min_of(splat(kHighest), max_of(splat(kLowest), x));
  const Vec n = round_half_even(t * splat(kLog2E));
  const Vec r = ((t - n * splat(kLn2Hi) - n * splat(kLn2Lo)) + ... + lo);
  const Vec square = r * r;
  const Vec p4 = splat(1.9875691500e-4f) * r + splat(1.3981999507e-3f);
  const Vec p2 = splat(8.3334519073e-3f) * r + splat(4.1665795894e-2f);
  const Vec p0 = splat(1.6666665459e-1f) * r + splat(5.0000001201e-1f);
  const Vec p = (p4 * square + p2) * square + p0;
  return scale_by_power(p * square + r + splat(1.0f), n);  // n of [-150, 129]
}

inline Vec negative(Vec x) { return splat(-0.0f) - x; }

void silu(const float* x, float* y, int64_t n) noexcept {
  for_each_block(n, [&](int64_t i, auto part) {
    const Vec v = load_lanes(part, x + i, 0.0f);
    store_lanes(part, y + i, v / (splat(1.0f) + exp_of(negative(v))));
  });
}

// A number as the sum of two floats, the second at most half an ulp of the first.
struct TwoFloats {
  float hi, lo;
};
constexpr TwoFloats two_floats(double value) {
  const auto hi = static_cast<float>(value);
  return {hi, static_cast<float>(value - static_cast<double>(hi))};
}

// hi + lo = x (a + b x^2) within about 2^-44 of itself; a and b negative.
inline void odd_cubic(Vec x, TwoFloats a, TwoFloats b, Vec& hi, Vec& lo) {
  const Vec square = x * x;
  const Vec bx2 = square * splat(b.hi);
  const Vec bx2_lo = product_error(square, splat(b.hi), bx2) +
                     product_error(x, x, square) * splat(b.hi) + square * splat(b.lo);
  const Vec sum = splat(a.hi) + bx2;
  // What the sum lost: exact where the larger one is subtracted first (Dekker, 1971).
  const Vec larger = min_of(splat(a.hi), bx2), smaller = max_of(splat(a.hi), bx2);
  const Vec sum_lo = (smaller - (sum - larger)) + (bx2_lo + splat(a.lo));
  hi = x * sum;
  lo = product_error(x, sum, hi) + x * sum_lo;
}

// 0.5 x (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3).
constexpr double kGeluLinear = -1.5957691216057308;  // -2 sqrt(2/pi)
constexpr double kGeluCubic = kGeluLinear * 0.044715;

// An error of one ulp in 2u = 17 would be 17 ulp in e^-2u: 2u in two floats.
[[gnu::always_inline]] inline Vec gelu_of(Vec x) {
  // Beyond 32 the result is x or -0; the limit keeps 2u finite.
  const Vec limited = min_of(splat(32.0f), max_of(splat(-32.0f), x));
  Vec hi, lo;
  odd_cubic(limited, two_floats(kGeluLinear), two_floats(kGeluCubic), hi, lo);
  return x / (splat(1.0f) + exp_of(hi, lo));
}

// To be rounded to 16 bits, of an ulp of which 17 ulp of a float are 1/500. 2u in units of ln 2.
[[gnu::always_inline]] inline Vec gelu_of_16_bits(Vec x) {
  constexpr double kLog2E = 1.4426950408889634;
  const auto c = [](int i) { return splat(kExp2Polynomial[i]); };
  const Vec inner = splat(static_cast<float>(kGeluLinear * kLog2E)) +
                    x * x * splat(static_cast<float>(kGeluCubic * kLog2E));
  const Vec t = min_of(splat(129.0f), max_of(splat(-150.0f), x * inner));
  const Vec n = round_half_even(t);
  const Vec r = t - n, square = r * r;
  const Vec power = ((c(5) * r + c(4)) * square + (c(3) * r + c(2))) * square + (c(1) * r + c(0));
  return x / (splat(1.0f) + scale_by_power(power, n));
}

void gelu_tanh(const void* x, void* y, FloatType type, int64_t n) noexcept {
  with_float_type(type, [&]<FloatType T>(FloatTypeTag<T> tag) {
    for_each_block(n, [&](int64_t i, auto part) {
      const Vec v = load_as(tag, part, x, i);
      store_as(tag, part, y, i, T == FloatType::kF32 ? gelu_of(v) : gelu_of_16_bits(v));
    });
  });
}

// body(tag of x_type, tag of y_type)
template <typename Body>
void with_float_types(FloatType x_type, FloatType y_type, const Body& body) {
  with_float_type(
      x_type, [&](auto of_x) { with_float_type(y_type, [&](auto of_y) { body(of_x, of_y); }); });
}

// Sums of x, and of (x - center)^2.
template <typename Tag>
float sum_of(Tag tag, const void* x, int64_t n) {
  Vec sum = splat(0.0f);
  for_each_block(n, [&](int64_t i, auto part) { sum = sum + load_as(tag, part, x, i); });
  return sum_lanes(sum);
}
template <typename Tag>
float square_sum_of(Tag tag, const void* x, float center, int64_t n) {
  Vec sum = splat(0.0f);
  for_each_block(n, [&](int64_t i, auto part) {
    const Vec d = zero_rest(part, load_as(tag, part, x, i) - splat(center));
    sum = sum + d * d;
  });
  return sum_lanes(sum);
}

void layer_norm_modulate(const void* x, FloatType x_type, const float* scale, const float* shift,
                         float eps, void* y, FloatType y_type, int64_t n) noexcept {
  with_float_types(x_type, y_type, [&](auto of_x, auto of_y) {
    const auto count = static_cast<float>(n);
    const float mean = sum_of(of_x, x, n) / count;
    const float variance = square_sum_of(of_x, x, mean, n) / count;
    const float reciprocal = 1.0f / __builtin_sqrtf(variance + eps);
    for_each_block(n, [&](int64_t i, auto part) {
      const Vec normal = (load_as(of_x, part, x, i) - splat(mean)) * splat(reciprocal);
      const Vec gain = splat(1.0f) + load_lanes(part, scale + i, 0.0f);
      store_as(of_y, part, y, i, normal * gain + load_lanes(part, shift + i, 0.0f));
    });
  });
}

// c0, c0, c1, c1, ... of the pairs that a block has.
[[gnu::always_inline]] inline Vec load_pairs(WholeBlock, const float* p) { return load_doubled(p); }
inline Vec load_pairs(PartOfBlock part, const float* p) {
  float pairs[kLanes / 2] = {};
  for (int64_t i = 0; i < part.count / 2; ++i) pairs[i] = p[i];
  return load_doubled(pairs);
}

void rms_norm_rotate(const void* x, const HeadTurn& turn, void* y, FloatType type,
                     int64_t n) noexcept {
  with_float_type(type, [&](auto tag) {
    const float mean_square = square_sum_of(tag, x, 0.0f, n) / static_cast<float>(n);
    const float reciprocal = 1.0f / __builtin_sqrtf(mean_square + turn.eps);
    for_each_block(n, [&](int64_t i, auto part) {
      const Vec v =
          load_as(tag, part, x, i) * splat(reciprocal) * load_lanes(part, turn.weight + i, 0.0f);
      const Vec turned = negate_even(swap_pairs(v) * load_pairs(part, turn.sin + i / 2));
      store_as(tag, part, y, i, v * load_pairs(part, turn.cos + i / 2) + turned);
    });
  });
}

void add_scaled(const void* x, FloatType x_type, const float* gate, const void* y, void* out,
                FloatType y_type, int64_t n) noexcept {
  with_float_types(x_type, y_type, [&](auto of_x, auto of_y) {
    for_each_block(n, [&](int64_t i, auto part) {
      const Vec product = load_lanes(part, gate + i, 0.0f) * load_as(of_x, part, x, i);
      store_as(of_y, part, out, i, load_as(of_y, part, y, i) + product);
    });
  });
}

void widen(const void* x, FloatType x_type, float* y, int64_t n) noexcept {
  with_float_type(x_type, [&](auto type) {
    for_each_block(
        n, [&](int64_t i, auto part) { store_lanes(part, y + i, load_as(type, part, x, i)); });
  });
}

void narrow(const float* x, void* y, FloatType y_type, int64_t n) noexcept {
  with_float_type(y_type, [&](auto type) {
    for_each_block(n, [&](int64_t i, auto part) {
      store_as(type, part, y, i, load_lanes(part, x + i, 0.0f));
    });
  });
}

void widen_int8(const int8_t* q, float* y, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, load_int8(q + i));
  for (; i < n; ++i) y[i] = static_cast<float>(q[i]);
}

void scale_bias(const float* acc, const float* scale, const float* bias, void* y, FloatType y_type,
                int64_t n) noexcept {
  with_float_type(y_type, [&](auto type) {
    for_each_block(n, [&](int64_t i, auto part) {
      Vec v = load_lanes(part, acc + i, 0.0f);
      if (scale != nullptr) v = v * load_lanes(part, scale + i, 0.0f);
      if (bias != nullptr) v = v + load_lanes(part, bias + i, 0.0f);
      store_as(type, part, y, i, v);
    });
  });
}

float max_of_run(const float* x, int64_t n) noexcept {
  constexpr float kMinusInfinity = -__builtin_inff();
  Vec largest = splat(kMinusInfinity);
  for_each_block(n, [&](int64_t i, auto part) {
    largest = max_of(largest, load_lanes(part, x + i, kMinusInfinity));
  });
  float lanes[16];
  store(lanes, largest);
  float result = kMinusInfinity;
  for (float lane : lanes) result = result > lane ? result : lane;
  return result;
}

float exp_sum(float* x, float scale, float shift, int64_t n) noexcept {
  Vec sum = splat(0.0f);
  for_each_block(n, [&](int64_t i, auto part) {
    const Vec t = load_lanes(part, x + i, 0.0f) * splat(scale) - splat(shift);
    const Vec e = exp_of(t);
    store_lanes(part, x + i, e);
    sum = sum + zero_rest(part, e);
  });
  return sum_lanes(sum);
}

void multiply(float factor, float* y, int64_t n) noexcept {
  for_each_block(n, [&](int64_t i, auto part) {
    store_lanes(part, y + i, load_lanes(part, y + i, 0.0f) * splat(factor));
  });
}

float amax_of_run(const float* x, int64_t n) noexcept {
  Vec largest = splat(0.0f);
  for_each_block(n, [&](int64_t i, auto part) {
    largest = max_magnitude(largest, magnitude(load_lanes(part, x + i, 0.0f)));
  });
  return largest_lane(largest);
}

// The pairs of lanes that differ in one bit of their index become sum and difference.
template <int kDistance>
[[gnu::always_inline]] inline Vec butterfly(Vec a) {
  alignas(64) static constexpr auto kSigns = [] {
    struct {
      float lane[kLanes];
    } signs{};
    for (int i = 0; i < kLanes; ++i) signs.lane[i] = (i & kDistance) != 0 ? -1.0f : 1.0f;
    return signs;
  }();
  return exchange_lanes<kDistance>(a) + a * load(kSigns.lane);
}

// One stage between vectors that are `distance` apart.
[[gnu::always_inline]] inline void butterfly(Vec* v, int64_t count, int64_t distance) {
  for (int64_t i = 0; i < count; ++i) {
    if ((i & distance) != 0) continue;
    const Vec a = v[i], b = v[i + distance];
    v[i] = a + b;
    v[i + distance] = a - b;
  }
}

// 128 floats, or 64, stay in registers.
template <int kVectors>
void hadamard_of(const float* before, const float* after, float* x) {
  Vec v[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    const Vec a = load(x + i * kLanes) * load(before + i * kLanes);
    v[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(a))));
  }
  for (int distance = 1; distance < kVectors; distance *= 2) butterfly(v, kVectors, distance);
  for (int i = 0; i < kVectors; ++i) store(x + i * kLanes, v[i] * load(after + i * kLanes));
}

void hadamard(const float* before, const float* after, float* x, int64_t n) noexcept {
  if (n == 8 * kLanes) return hadamard_of<8>(before, after, x);
  if (n == 4 * kLanes) return hadamard_of<4>(before, after, x);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vec a = load(x + i) * load(before + i);
    store(x + i, butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(a)))));
  }
  for (int64_t distance = kLanes; distance < n; distance *= 2) {
    for (int64_t i = 0; i < n; i += kLanes) {
      if ((i & distance) != 0) continue;
      const Vec a = load(x + i), b = load(x + i + distance);
      store(x + i, a + b);
      store(x + i + distance, a - b);
    }
  }
  for (int64_t i = 0; i < n; i += kLanes) store(x + i, load(x + i) * load(after + i));
}

void e4m3_codes(const float* x, float scale, uint8_t* codes, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_e4m3(codes + i, load(x + i) / splat(scale));
  if (i == n) return;
  uint8_t rest[kLanes];
  store_e4m3(rest, load_lanes(PartOfBlock{n - i}, x + i, 0.0f) / splat(scale));
  __builtin_memcpy(codes + i, rest, static_cast<size_t>(n - i));
}

void widen_e4m3(const uint8_t* codes, float* y, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load_e4m3(codes + i));
  if (i == n) return;
  uint8_t rest[kLanes] = {};
  __builtin_memcpy(rest, codes + i, static_cast<size_t>(n - i));
  store_lanes(PartOfBlock{n - i}, y + i, load_e4m3(rest));
}

void round_to_e4m3(float factor, float* x, int64_t n) noexcept {
  for_each_block(n, [&](int64_t i, auto part) {
    store_lanes(part, x + i, round_e4m3(load_lanes(part, x + i, 0.0f) * splat(factor)));
  });
}

}  // namespace

constinit const FloatOps kFloatOps = {
    silu,        gelu_tanh,  layer_norm_modulate, rms_norm_rotate, add_scaled,   widen,
    narrow,      widen_int8, scale_bias,          max_of_run,      exp_sum,      multiply,
    amax_of_run, hadamard,   e4m3_codes,          widen_e4m3,      round_to_e4m3};

}  // namespace mezzotint::MZ_ISA
