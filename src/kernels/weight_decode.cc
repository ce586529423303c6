#include "kernels/weight_decode.h"

#include <algorithm>
#include <array>

#include "numerics/affine.h"
#include "numerics/dual_level.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
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

std::array<float, kBytes> e4m3_table() {
  std::array<float, kBytes> table{};
  for (unsigned i = 0; i < kBytes; ++i) table[i] = e4m3_to_float(static_cast<uint8_t>(i));
  return table;
}

const std::array<float, kNibbles>& nibble_values(Element element) {
  static const std::array<float, kNibbles> int4 = nibble_table(Element::kInt4);
  static const std::array<float, kNibbles> e2m1 = nibble_table(Element::kE2M1);
  return element == Element::kE2M1 ? e2m1 : int4;
}

const std::array<float, kBytes>& e4m3_values() {
  static const std::array<float, kBytes> table = e4m3_table();
  return table;
}

// begin is even.
void decode_nibbles(const std::byte* row, const std::array<float, kNibbles>& values, int64_t begin,
                    int64_t end, float* out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row) + begin / 2;
  const int64_t count = end - begin;
  for (int64_t i = 0; i < count / 2; ++i) {
    out[2 * i] = values[bytes[i] & kLowNibble];
    out[2 * i + 1] = values[bytes[i] >> kNibbleBits];
  }
  if (count % 2 != 0) out[count - 1] = values[bytes[count / 2] & kLowNibble];
}

void decode_codes(const WeightView& w, int64_t row, int64_t begin, int64_t end, float* out) {
  const std::byte* codes = w.codes + row * code_row_bytes(w.element, w.k);
  switch (w.element) {
    case Element::kInt8:
      std::copy(reinterpret_cast<const int8_t*>(codes) + begin,
                reinterpret_cast<const int8_t*>(codes) + end, out);
      return;
    case Element::kInt4:
    case Element::kE2M1:
      decode_nibbles(codes, nibble_values(w.element), begin, end, out);
      return;
    default:
      for (int64_t k = begin; k < end; ++k) {
        out[k - begin] = e4m3_values()[std::to_integer<uint8_t>(codes[k])];
      }
  }
}

// Blocks of 32 by their power of two, then blocks of 512 by their float.
void scale_blocks(const uint8_t* block_scale, const float* dual_scale, int64_t count, float* out) {
  for (int64_t first = 0; first < count; first += kMxBlock) {
    const float power = e8m0_to_float(block_scale[first / kMxBlock]);
    const float dual = dual_scale == nullptr ? 1.0f : dual_scale[first / kDualBlock];
    const int64_t last = std::min(first + kMxBlock, count);
    for (int64_t i = first; i < last; ++i) out[i] = out[i] * power * dual;
  }
}

void scale_groups(const WeightView& w, int64_t row, int64_t begin, int64_t end, float* out) {
  const int64_t group = w.group == 0 ? w.k : w.group;
  const int64_t first_scale = row * (w.k / group);
  for (int64_t k = begin; k < end;) {
    const int64_t i = first_scale + k / group;
    const float scale = w.scale[i];
    const float offset = w.offset == nullptr ? 0.0f : w.offset[i];
    const int64_t last = std::min(end, (k / group + 1) * group);
    for (; k < last; ++k) out[k - begin] = (out[k - begin] - offset) * scale;
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
    for (int64_t i = 0; i < count; ++i) out[i] = e4m3_values()[codes[i]];
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
