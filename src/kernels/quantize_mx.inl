// The MX quantizer of activations for one ISA: the floor rule, one level or two; the formulas are
// numerics/mx.h and dual_level.h, codes and scales equal to the last bit. Included after that ISA's
// vec16.h, with MZ_ISA naming its namespace.

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"
#include "numerics/dual_level.h"
#include "numerics/mx.h"

namespace mezzotint::MZ_ISA {
namespace {

struct MxBlock {
  Vec lo, hi;
};
static_assert(kMxBlock == 2 * kLanes);

// One block of x, smoothed; zeros behind `count`.
template <typename Type>
[[gnu::always_inline]] inline MxBlock load_mx_block(Type type, const QuantizeMxTile& tile,
                                                    const void* x, int64_t k) {
  const auto half = [&](int64_t first) __attribute__((always_inline)) {
    const auto load = [&](auto part) __attribute__((always_inline)) {
      const Vec v = load_as(type, part, x, first);
      return tile.mul == nullptr ? v : v * load_lanes(part, tile.mul + first, 0.0f);
    };
    if (first + kLanes <= tile.k) return load(WholeBlock{});
    if (first < tile.k) return load(PartOfBlock{tile.k - first});
    return splat(0.0f);
  };
  return {half(k), half(k + kLanes)};
}

// The scale's byte and 32 codes.
[[gnu::always_inline]] inline uint8_t quantize_mx_block(const MxBlock& x, Element element,
                                                        uint8_t* codes) {
  const float amax = largest_lane(max_magnitude(x.lo, x.hi));
  const uint8_t byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, kExporterCeilX);
  if (byte == 0 || byte == kE8M0NaN) {
    __builtin_memset(codes, 0, kMxBlock);
    return byte;
  }
  const Vec reciprocal = splat(e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - byte)));
  if (element == Element::kE2M1) {
    store_e2m1(codes, x.lo * reciprocal);
    store_e2m1(codes + kLanes, x.hi * reciprocal);
  } else {
    store_e4m3(codes, x.lo * reciprocal);
    store_e4m3(codes + kLanes, x.hi * reciprocal);
  }
  return byte;
}

// Block b of row m.
[[gnu::always_inline]] inline void write_mx_block(const QuantizeMxTile& tile, int64_t m, int64_t b,
                                                  const MxBlock& x) {
  const int64_t k = b * kMxBlock;
  uint8_t* codes = tile.q + m * tile.k + k;
  uint8_t* scale = tile.block_scale + m * mx_blocks(tile.k) + b;
  if (k + kMxBlock <= tile.k) {
    *scale = quantize_mx_block(x, tile.element, codes);
    return;
  }
  uint8_t whole[kMxBlock];
  *scale = quantize_mx_block(x, tile.element, whole);
  __builtin_memcpy(codes, whole, static_cast<size_t>(tile.k - k));
}

template <typename Type>
void quantize_mx_row(Type type, const QuantizeMxTile& tile, const void* x, int64_t m) {
  for (int64_t b = 0; b < mx_blocks(tile.k); ++b) {
    write_mx_block(tile, m, b, load_mx_block(type, tile, x, b * kMxBlock));
  }
}

// Two levels: the blocks of 32 hold x / s, s of 512 elements.
template <typename Type>
void quantize_dual_row(Type type, const QuantizeMxTile& tile, const void* x, int64_t m) {
  constexpr int64_t kBlocks = kDualBlock / kMxBlock;
  const int64_t blocks = mx_blocks(tile.k);
  for (int64_t first = 0; first < blocks; first += kBlocks) {
    const int64_t end = first + kBlocks < blocks ? first + kBlocks : blocks;
    Vec amax = splat(0.0f);
    for (int64_t b = first; b < end; ++b) {
      const MxBlock block = load_mx_block(type, tile, x, b * kMxBlock);
      amax = max_magnitude(amax, max_magnitude(finite_or_zero(block.lo), finite_or_zero(block.hi)));
    }
    const float scale = dual_scale(largest_lane(amax));
    tile.dual_scale[m * dual_blocks(tile.k) + first / kBlocks] = scale;
    for (int64_t b = first; b < end; ++b) {
      const MxBlock block = load_mx_block(type, tile, x, b * kMxBlock);
      const MxBlock zero = {splat(0.0f), splat(0.0f)};
      const MxBlock inner = {block.lo / splat(scale), block.hi / splat(scale)};
      write_mx_block(tile, m, b, scale == 0.0f ? zero : inner);
    }
  }
}

}  // namespace

void quantize_mx(const QuantizeMxTile& tile) noexcept {
  with_float_type(tile.x_type, [&](auto type) {
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      const void* x =
          static_cast<const char*>(tile.x) + m * tile.x_stride * float_size(tile.x_type);
      if (tile.dual_scale == nullptr) {
        quantize_mx_row(type, tile, x, m);
      } else {
        quantize_dual_row(type, tile, x, m);
      }
    }
  });
}

}  // namespace mezzotint::MZ_ISA
