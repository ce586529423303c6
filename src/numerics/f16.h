// IEEE 754 binary16. Conversions by integer arithmetic, equal to the F16C instructions.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

// Denormals are read by a float subtraction that normalises them: 2^-14 * (1 + f) - 2^-14.
MZ_HD float f16_to_float(uint16_t bits) {
  constexpr uint32_t kRebias = (127 - 15) << 23;
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits & 0x7c00u;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffu) << 13;
  if (exponent == 0x7c00u) {
    const uint32_t quiet = (bits & 0x03ffu) != 0 ? 0x00400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x007fffffu) | quiet);
  }
  if (exponent == 0) {
    const float normal = std::bit_cast<float>(magnitude + kRebias + (1u << 23));
    return std::bit_cast<float>(std::bit_cast<uint32_t>(normal - 0x1p-14f) | sign);
  }
  return std::bit_cast<float>(sign | (magnitude + kRebias));
}
static_assert(f16_to_float(0x3c00) == 1.0f);
static_assert(f16_to_float(0x7bff) == 65504.0f);
static_assert(f16_to_float(0x8001) == -0x1p-24f);

// Half to even; from 65520 on infinity; NaN keeps its sign and upper payload and becomes quiet.
MZ_HD uint16_t f16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x03ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: units of 2^-24, rounded as those of [0.5, 1)
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - ((127u - 15u) << 23)) >> 13));
}
static_assert(f16_from_float(1.0f) == 0x3c00);
static_assert(f16_from_float(65519.996f) == 0x7bff);
static_assert(f16_from_float(65520.0f) == 0x7c00);
static_assert(f16_from_float(0x1p-25f) == 0x0000);        // tie with the smallest: even is 0
static_assert(f16_from_float(0x1.8p-24f) == 0x0002);      // tie between 1 and 2 units
static_assert(f16_from_float(1.00048828125f) == 0x3c00);  // 1 + 2^-11: tie

}  // namespace mezzotint
