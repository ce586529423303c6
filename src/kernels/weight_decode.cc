#include "kernels/weight_decode.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/cpu_features.h"
#include "kernels/float_ops.h"
#include "numerics/dual_level.h"
#include "numerics/e2m1.h"
#include "numerics/e8m0.h"
#include "numerics/mx.h"
#include "numerics/nibbles.h"

namespace mezzotint {
namespace {

static_assert(mx_blocks(kMxBlock) == 1 && mx_blocks(kMxBlock + 1) == 2);
static_assert(dual_blocks(kDualBlock) == 1 && dual_blocks(kDualBlock + 1) == 2);

constexpr int kNibbles = 16;
constexpr int kBytes = 256;
constexpr unsigned kLowNibble = 0xf;
constexpr int kNibbleBits = 4;

std::array<float, kNibbles> nibble_table(Element element) {
  std::array<float, kNibbles> table{};
  for (unsigned i = 0; i < kNibbles; ++i) {
    table[i] = element == Element::kE2M1 ? e2m1_to_float(static_cast<uint8_t>(i))
                                         : static_cast<float>(int4_from_nibble(i));
  }
  return table;
}

const std::array<float, kNibbles>& nibble_values(Element element) {
  static const std::array<float, kNibbles> int4 = nibble_table(Element::kInt4);
  static const std::array<float, kNibbles> e2m1 = nibble_table(Element::kE2M1);
  return element == Element::kE2M1 ? e2m1 : int4;
}

// What both nibbles of a byte stand for.
struct NibblePair {
  float even, odd;
};
using PairTable = std::array<NibblePair, kBytes>;

PairTable pair_table(Element element) {
  const std::array<float, kNibbles>& values = nibble_values(element);
  PairTable table{};
  for (unsigned i = 0; i < kBytes; ++i) {
    table[i] = {.even = values[i & kLowNibble], .odd = values[i >> kNibbleBits]};
  }
  return table;
}

const PairTable& pair_values(Element element) {
  static const PairTable int4 = pair_table(Element::kInt4);
  static const PairTable e2m1 = pair_table(Element::kE2M1);
  return element == Element::kE2M1 ? e2m1 : int4;
}

// begin is even.
void decode_nibbles(const std::byte* row, const PairTable& pairs, int64_t begin, int64_t end,
                    float* out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row) + begin / 2;
  const int64_t count = end - begin;
  for (int64_t i = 0; i < count / 2; ++i) {
    std::memcpy(out + 2 * i, &pairs[bytes[i]], sizeof(NibblePair));
  }
  if (count % 2 != 0) out[count - 1] = pairs[bytes[count / 2]].even;
}

void decode_codes(const WeightView& w, int64_t row, int64_t begin, int64_t end, float* out) {
  const std::byte* codes = w.codes + row * code_row_bytes(w.element, w.k);
  switch (w.element) {
    case Element::kInt8:
      float_ops(active_isa())
          .widen_int8(reinterpret_cast<const int8_t*>(codes) + begin, out, end - begin);
      return;
    case Element::kInt4:
    case Element::kE2M1:
      decode_nibbles(codes, pair_values(w.element), begin, end, out);
      return;
    default:
      float_ops(active_isa())
          .widen_e4m3(reinterpret_cast<const uint8_t*>(codes) + begin, out, end - begin);
  }
}

// Blocks of 32 by their power of two, then blocks of 512 by their float.
void scale_blocks(const uint8_t* block_scale, const float* dual_scale, int64_t count, float* out) {
  const FloatOps& ops = float_ops(active_isa());
  for (int64_t first = 0; first < count; first += kMxBlock) {
    ops.multiply(e8m0_to_float(block_scale[first / kMxBlock]), out + first,
                 std::min(kMxBlock, count - first));
  }
  if (dual_scale == nullptr) return;
  for (int64_t first = 0; first < count; first += kDualBlock) {
    ops.multiply(dual_scale[first / kDualBlock], out + first, std::min(kDualBlock, count - first));
  }
}

void scale_groups(const WeightView& w, int64_t row, int64_t begin, int64_t end, float* out) {
  const FloatOps& ops = float_ops(active_isa());
  const int64_t group = w.group == 0 ? w.k : w.group;
  const int64_t first_scale = row * (w.k / group);
  for (int64_t k = begin; k < end;) {
    const int64_t i = first_scale + k / group;
    const int64_t last = std::min(end, (k / group + 1) * group);
    if (w.offset != nullptr) {
      const float offset = w.offset[i];
      for (int64_t at = k; at < last; ++at) out[at - begin] -= offset;
    }
    ops.multiply(w.scale[i], out + k - begin, last - k);
    k = last;
  }
}

}  // namespace

void decode_weights(const WeightView& w, int64_t row, int64_t begin, int64_t end,
                    float* out) noexcept {
  decode_codes(w, row, begin, end, out);
  if (w.block_scale != nullptr) {
    const float* dual = w.dual_scale == nullptr
                            ? nullptr
                            : w.dual_scale + row * dual_blocks(w.k) + begin / kDualBlock;
    scale_blocks(w.block_scale + row * mx_blocks(w.k) + begin / kMxBlock, dual, end - begin, out);
  } else if (w.scale != nullptr) {
    scale_groups(w, row, begin, end, out);
  }
}

void decode_mx_bytes(const uint8_t* codes, Element element, const uint8_t* block_scale,
                     const float* dual_scale, int64_t count, float* out) noexcept {
  if (element == Element::kE2M1) {
    const auto& values = nibble_values(element);
    for (int64_t i = 0; i < count; ++i) out[i] = values[codes[i] & kLowNibble];
  } else {
    float_ops(active_isa()).widen_e4m3(codes, out, count);
  }
  scale_blocks(block_scale, dual_scale, count, out);
}

int code_at(const std::byte* codes, Element element, int64_t row_bytes, int64_t row,
            int64_t k) noexcept {
  const bool packed = element == Element::kInt4 || element == Element::kE2M1;
  const auto byte = std::to_integer<unsigned>(codes[row * row_bytes + (packed ? k / 2 : k)]);
  if (!packed)
    return element == Element::kInt8 ? static_cast<int8_t>(byte) : static_cast<int>(byte);
  const unsigned nibble = k % 2 == 0 ? byte & kLowNibble : byte >> kNibbleBits;
  return element == Element::kInt4 ? int4_from_nibble(nibble) : static_cast<int>(nibble);
}

}  // namespace mezzotint
