// bfloat16: the upper half of a float. Source: Intel, "BFLOAT16 - Hardware Numerics Definition"
// (2018), without its flush of denormals: denormals are converted like every other value.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

MZ_HD float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
static_assert(bf16_to_float(0x3f80) == 1.0f);

// Half to even; overflow gives infinity; NaN keeps its sign and upper payload and becomes quiet.
// Adding 0x7fff plus the last kept bit carries into the kept half exactly when the dropped half is
// above 0x8000, or equal to it with the last kept bit odd.
MZ_HD uint16_t bf16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const uint32_t quiet = bits | 0x00400000u;
  return static_cast<uint16_t>((is_nan(value) ? quiet : rounded) >> 16);
}
static_assert(bf16_from_float(1.0f) == 0x3f80);
static_assert(bf16_from_float(1.00390625f) == 0x3f80);  // 1 + 2^-8: tie, 0x3f80 is even
static_assert(bf16_from_float(1.01171875f) == 0x3f82);  // 1 + 3 * 2^-8: tie, up to even
static_assert(bf16_from_float(std::bit_cast<float>(0x7f7fffffu)) == 0x7f80);  // largest: infinity
static_assert(bf16_from_float(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);  // signalling NaN

MZ_HD float round_to_bf16(float value) { return bf16_to_float(bf16_from_float(value)); }
static_assert(round_to_bf16(0.1f) == 0.10009765625f);

}  // namespace mezzotint
