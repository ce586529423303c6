// Floats of at most eight bits, described by a value: the common conversions of e4m3.h, e5m2.h and
// e2m1.h.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

// A sign bit above exponent bits above mantissa_bits; exponent field 0 holds the denormals.
struct Minifloat {
  int mantissa_bits;
  int bias;          // a normal number is 2^(field - bias) * (1 + mantissa / 2^mantissa_bits)
  uint8_t sign_bit;  // the codes below it are the magnitudes, in ascending order
  uint8_t max_code;  // of the largest finite magnitude
  uint8_t nan_code;  // what NaN becomes
};

inline constexpr int kFloatMantissaBits = 23;
inline constexpr int kFloatBias = 127;

// 2^exponent, for exponents of normal floats.
MZ_HD float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + kFloatBias) << kFloatMantissaBits);
}

// Saturating: beyond the largest finite magnitude, and for infinities, that magnitude. Normal
// results are rounded on the bits, where a carry out of the mantissa raises the exponent; denormal
// ones are integers of units of the smallest. Half away is sign(v) * round(|v|), with sign(-0) = 0:
// -0 becomes +0, as in microxcaling and the exporter that rounds so; half to even keeps -0.
template <Minifloat kFormat>
MZ_HD uint8_t minifloat_from_float(float v, Rounding rounding) {
  constexpr int kDropped = kFloatMantissaBits - kFormat.mantissa_bits;
  constexpr uint32_t kHalf = 1u << (kDropped - 1);
  constexpr auto kRebias = static_cast<uint32_t>(kFloatBias - kFormat.bias) << kFloatMantissaBits;
  constexpr uint32_t kMinNormal = kRebias + (1u << kFloatMantissaBits);
  constexpr float kUnitsPerOne = power_of_two(kFormat.bias - 1 + kFormat.mantissa_bits);
  if (is_nan(v)) return kFormat.nan_code;
  const uint32_t bits = std::bit_cast<uint32_t>(absolute(v));
  const bool keeps_sign = rounding == Rounding::kHalfEven || bits != 0;
  const bool negative = std::bit_cast<uint32_t>(v) >> 31 != 0;
  uint32_t code = 0;
  if (bits < kMinNormal) {
    code = static_cast<uint32_t>(round_to_integer(absolute(v) * kUnitsPerOne, rounding));
  } else {
    const uint32_t odd = (bits >> kDropped) & 1u;
    const uint32_t increment = rounding == Rounding::kHalfEven ? kHalf - 1u + odd : kHalf;
    code = (bits + increment - kRebias) >> kDropped;
  }
  if (code > kFormat.max_code) code = kFormat.max_code;
  return static_cast<uint8_t>(code | (negative && keeps_sign ? kFormat.sign_bit : 0u));
}

// The finite values; a format with infinities or NaN looks at their codes first.
template <Minifloat kFormat>
MZ_HD float minifloat_to_float(uint8_t code) {
  constexpr int kDropped = kFloatMantissaBits - kFormat.mantissa_bits;
  constexpr auto kRebias = static_cast<uint32_t>(kFloatBias - kFormat.bias) << kFloatMantissaBits;
  constexpr float kUnit = power_of_two(1 - kFormat.bias - kFormat.mantissa_bits);
  const uint32_t magnitude = code & (kFormat.sign_bit - 1u);
  const uint32_t sign = (code & kFormat.sign_bit) != 0 ? 0x80000000u : 0u;
  const bool denormal = magnitude >> kFormat.mantissa_bits == 0;
  const float value = denormal ? static_cast<float>(magnitude) * kUnit
                               : std::bit_cast<float>((magnitude << kDropped) + kRebias);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

}  // namespace mezzotint
