// The MX quantizer of activations for one ISA: the floor rule, one level or two; the formulas are
// numerics/mx.h and dual_level.h, codes and scales equal to the last bit. Included after that ISA's
// vec16.h, with MZ_ISA naming its namespace.

#include <cstdint>

#include "kernels/mx_codes.inl"
#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"
#include "numerics/dual_level.h"
#include "numerics/mx.h"

namespace mezzotint::MZ_ISA {
namespace {

// A row goes through these floats 512 at a time: loaded and smoothed, divided by the outer scale of
// dual level, with a scale for every block, and then come the codes. In one loop over blocks every
// code would wait for the scalar arithmetic of its scale.
struct Span {
  alignas(64) float buffer[kDualBlock];
  const float* x;  // the buffer, or the row itself; zeros from count to the end of a block
  int64_t count;
  uint8_t scale[kDualBlock / kMxBlock];
};
static_assert(kMxBlock == 2 * kLanes);

template <FloatType T>
void load_span(FloatTypeTag<T> type, const QuantizeMxTile& tile, const void* x, int64_t first,
               Span& span) {
  if constexpr (T == FloatType::kF32) {
    span.x = static_cast<const float*>(x) + first;
    if (tile.mul == nullptr && span.count % kMxBlock == 0) return;
  }
  span.x = span.buffer;
  for_each_block(span.count, [&](int64_t i, auto part) __attribute__((always_inline)) {
    store(span.buffer + i, load_as(type, part, x, first + i));
  });
  if (tile.mul != nullptr) {
    const float* mul = tile.mul + first;
    for_each_block(span.count, [&](int64_t i, auto part) __attribute__((always_inline)) {
      store(span.buffer + i, load(span.buffer + i) * load_lanes(part, mul + i, 0.0f));
    });
  }
  const int64_t stored = (span.count + kLanes - 1) / kLanes * kLanes;
  if (stored % kMxBlock != 0) store(span.buffer + stored, splat(0.0f));
}

// The floor rule reads the exponent alone.
[[gnu::always_inline]] inline uint8_t scale_of_block(Element element, Vec lo, Vec hi) {
  return mx_scale_byte(largest_binade(lo, hi), element, MxScaleRule::kFloor, kExporterCeilX);
}

void scale_blocks(Element element, Span& span) {
  for (int64_t i = 0; i < span.count; i += kMxBlock) {
    span.scale[i / kMxBlock] = scale_of_block(element, load(span.x + i), load(span.x + i + kLanes));
  }
}

// The same of x divided by the outer scale, which it returns. What is not finite does not count for
// that.
float divide_and_scale_blocks(Element element, Span& span) {
  Vec amax = splat(0.0f);
  for (int64_t i = 0; i < span.count; i += kLanes) {
    amax = max_of(amax, finite_or_zero(magnitude(load(span.x + i))));
  }
  const float scale = dual_scale(largest_lane(amax));
  const auto divided = [&](int64_t i) __attribute__((always_inline)) {
    return scale == 0.0f ? splat(0.0f) : load(span.x + i) / splat(scale);
  };
  for (int64_t i = 0; i < span.count; i += kMxBlock) {
    const Vec lo = divided(i), hi = divided(i + kLanes);
    store(span.buffer + i, lo);
    store(span.buffer + i + kLanes, hi);
    span.scale[i / kMxBlock] = scale_of_block(element, lo, hi);
  }
  span.x = span.buffer;
  return scale;
}

template <Element kElement>
[[gnu::always_inline]] inline void encode_block(const float* x, uint8_t byte, uint8_t* codes) {
  if (byte == 0 || byte == kE8M0NaN) {
    __builtin_memset(codes, 0, kMxBlock);
    return;
  }
  if constexpr (kMakesScaledCodes<kElement, Vec>) {
    store_scaled<kElement>(codes, load(x), byte);
    store_scaled<kElement>(codes + kLanes, load(x + kLanes), byte);
  } else {
    const Vec reciprocal = splat(e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - byte)));
    for (int64_t i = 0; i < kMxBlock; i += kLanes) {
      store_elements<kElement>(codes + i, load(x + i) * reciprocal);
    }
  }
}

template <Element kElement>
void encode_span(const Span& span, uint8_t* codes) {
  int64_t i = 0;
  for (; i + kMxBlock <= span.count; i += kMxBlock) {
    encode_block<kElement>(span.x + i, span.scale[i / kMxBlock], codes + i);
  }
  if (i == span.count) return;
  uint8_t whole[kMxBlock];
  encode_block<kElement>(span.x + i, span.scale[i / kMxBlock], whole);
  __builtin_memcpy(codes + i, whole, static_cast<size_t>(span.count - i));
}

template <typename Type>
void quantize_mx_row(Type type, const QuantizeMxTile& tile, const void* x, int64_t m) {
  Span span;
  for (int64_t k = 0; k < tile.k; k += kDualBlock) {
    span.count = tile.k - k < kDualBlock ? tile.k - k : kDualBlock;
    load_span(type, tile, x, k, span);
    if (tile.dual_scale == nullptr) {
      scale_blocks(tile.element, span);
    } else {
      tile.dual_scale[m * dual_blocks(tile.k) + k / kDualBlock] =
          divide_and_scale_blocks(tile.element, span);
    }
    __builtin_memcpy(tile.block_scale + m * mx_blocks(tile.k) + k / kMxBlock, span.scale,
                     static_cast<size_t>(mx_blocks(span.count)));
    uint8_t* codes = tile.q + m * tile.k + k;
    if (tile.element == Element::kE2M1) {
      encode_span<Element::kE2M1>(span, codes);
    } else {
      encode_span<Element::kE4M3>(span, codes);
    }
  }
}

}  // namespace

void quantize_mx(const QuantizeMxTile& tile) noexcept {
  with_float_type(tile.x_type, [&](auto type) {
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      const void* x =
          static_cast<const char*>(tile.x) + m * tile.x_stride * float_size(tile.x_type);
      quantize_mx_row(type, tile, x, m);
    }
  });
}

}  // namespace mezzotint::MZ_ISA
