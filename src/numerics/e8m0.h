// e8m0, the scales of MX blocks: byte b is 2^(b - 127), 255 is NaN; no zero, no sign. Source: OCP
// Microscaling Formats (MX) Specification 1.0, 2023, section 5.4.1. There is no cast from float:
// libraries disagree about its rounding, and a scale is made by a named rule (mx.h).
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr int kE8M0Bias = 127;
inline constexpr uint8_t kE8M0NaN = 255;
inline constexpr uint8_t kE8M0Max = 254;

// Byte 0 is 2^-127, a denormal float.
MZ_HD float e8m0_to_float(uint8_t byte) {
  if (byte == kE8M0NaN) return kQuietNaN;
  return std::bit_cast<float>(byte == 0 ? 0x00400000u : static_cast<uint32_t>(byte) << 23);
}
static_assert(e8m0_to_float(127) == 1.0f && e8m0_to_float(254) == 0x1p127f);
static_assert(e8m0_to_float(0) == 0x1p-127f && is_nan(e8m0_to_float(255)));

}  // namespace mezzotint
