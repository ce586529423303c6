// MX blocks: 32 elements that share a scale of a power of two, x ~ element * 2^(byte - 127).
// Source: OCP Microscaling Formats (MX) Specification 1.0, 2023; the rules that choose the scale
// have names.
#pragma once

#include <bit>
#include <cstdint>

#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e5m2.h"
#include "numerics/e8m0.h"
#include "numerics/host_device.h"
#include "numerics/quant_scheme.h"
#include "numerics/rounding.h"

namespace mezzotint {

inline constexpr int64_t kMxBlock = 32;

// How the scale comes from the block's largest magnitude amax. Where from: docs/numerics.md.
enum class MxScaleRule : uint8_t {
  kFloor,        // floor(log2 amax) - emax: the MX specification, and npu_dynamic_mx_quant
  kRceil,        // ceil(log2(amax / max)): cuBLAS, torchao RCEIL; nothing saturates
  kCeil,         // ceil(log2 amax) - emax: torchao CEIL
  kEven,         // floor(log2(amax rounded to the element's mantissa)) - emax: torchao EVEN
  kUpstreamFp4,  // floor(log2(amax / 0.875 + 9.6e-7)) - 2: the exporter's e2m1 weights
  kCeilX,        // ceil(log2(amax / c + 9.6e-7)): the exporter's ceil_x, c of [6, 12], 7.25 there
};

// floor(log2) of the largest finite element.
MZ_HD int element_emax(Element element) {
  switch (element) {
    case Element::kE4M3:
      return 8;
    case Element::kE5M2:
      return 15;
    case Element::kE2M1:
      return 2;
    case Element::kF32:
    case Element::kBF16:
    case Element::kF16:
    case Element::kInt8:
    case Element::kInt4:
      break;
  }
  __builtin_unreachable();  // not an element of MX blocks
}

MZ_HD float element_max(Element element) {
  if (element == Element::kE2M1) return kE2M1Max;
  return element == Element::kE4M3 ? kE4M3Max : kE5M2Max;
}

MZ_HD int element_mantissa_bits(Element element) {
  if (element == Element::kE2M1) return kE2M1Format.mantissa_bits;
  return element == Element::kE4M3 ? kE4M3Format.mantissa_bits : kE5M2Format.mantissa_bits;
}

// --- scales --------------------------------------------------------------------------------------

// The exponent field of a float that is not negative: floor(log2 t) + 127, and 0 below 2^-126.
MZ_HD int exponent_field(float t) { return static_cast<int>(std::bit_cast<uint32_t>(t) >> 23); }

MZ_HD bool has_mantissa(float t) { return (std::bit_cast<uint32_t>(t) & 0x007fffffu) != 0; }

// The smallest byte whose scale is at least t. Of the floats below 2^-126 byte 0 holds those up to
// 2^-127, half of 2^-126.
MZ_HD int e8m0_ceil(float t) {
  if (exponent_field(t) == 0) return std::bit_cast<uint32_t>(t) > 0x00400000u ? 1 : 0;
  return exponent_field(t) + (has_mantissa(t) ? 1 : 0);
}
static_assert(e8m0_ceil(1.0f) == 127 && e8m0_ceil(1.0000001f) == 128);
static_assert(e8m0_ceil(0x1p-127f) == 0 && e8m0_ceil(0.0f) == 0);

// What the exporter adds to keep log2 finite, and its largest exponent of e2m1.
inline constexpr float kExporterEpsilon = 9.6e-7f;
inline constexpr int kExporterMaxByte = 125 + kE8M0Bias;
inline constexpr float kExporterCeilX = 7.25f;

// The exponent plus 127, not yet clamped, of a finite amax. log2 is read from the bits, never
// computed in float: the exporter's float log2 is the integer already within 44 floats of a power
// of two, where the only bf16 is amax = 16 c of kCeilX.
MZ_HD int mx_scale_exponent(float amax, Element element, MxScaleRule rule, float ceil_x_constant) {
  const int emax = element_emax(element);
  switch (rule) {
    case MxScaleRule::kFloor:
      return exponent_field(amax) - emax;
    case MxScaleRule::kRceil:
      return e8m0_ceil(amax * (1.0f / element_max(element)));
    case MxScaleRule::kCeil:
      return exponent_field(amax) + (has_mantissa(amax) ? 1 : 0) - emax;
    case MxScaleRule::kEven: {
      const uint32_t half = 1u << (kFloatMantissaBits - element_mantissa_bits(element) - 1);
      return exponent_field(std::bit_cast<float>(std::bit_cast<uint32_t>(amax) + half)) - emax;
    }
    case MxScaleRule::kUpstreamFp4: {
      const int byte = exponent_field(amax / 0.875f + kExporterEpsilon) - 2;
      return byte < kExporterMaxByte ? byte : kExporterMaxByte;
    }
    case MxScaleRule::kCeilX: {
      const int byte = e8m0_ceil(amax / ceil_x_constant + kExporterEpsilon);
      return byte < kExporterMaxByte ? byte : kExporterMaxByte;
    }
  }
  __builtin_unreachable();
}

// The byte of a block whose largest magnitude is amax; 255 (NaN) where that is not finite.
// ceil_x_constant is read by kCeilX only. kFloor gives byte 0 to blocks with amax < 2^(emax - 126),
// all of whose elements are then zero.
MZ_HD uint8_t mx_scale_byte(float amax, Element element, MxScaleRule rule, float ceil_x_constant) {
  if (!is_finite(amax)) return kE8M0NaN;
  const int byte = mx_scale_exponent(amax, element, rule, ceil_x_constant);
  if (byte < 0) return 0;
  return byte > kE8M0Max ? kE8M0Max : static_cast<uint8_t>(byte);
}
static_assert(mx_scale_byte(512.0f, Element::kE4M3, MxScaleRule::kFloor, 0) == 128);
static_assert(mx_scale_byte(448.0f, Element::kE4M3, MxScaleRule::kRceil, 0) == 127);
static_assert(mx_scale_byte(450.0f, Element::kE4M3, MxScaleRule::kRceil, 0) == 128);
static_assert(mx_scale_byte(450.0f, Element::kE4M3, MxScaleRule::kFloor, 0) == 127);
static_assert(mx_scale_byte(5.0f, Element::kE2M1, MxScaleRule::kCeil, 0) == 128);
static_assert(mx_scale_byte(6.9f, Element::kE2M1, MxScaleRule::kEven, 0) == 127);
static_assert(mx_scale_byte(7.0f, Element::kE2M1, MxScaleRule::kEven, 0) == 128);
static_assert(mx_scale_byte(7.0f, Element::kE2M1, MxScaleRule::kFloor, 0) == 127);
static_assert(mx_scale_byte(7.0f, Element::kE2M1, MxScaleRule::kUpstreamFp4, 0) == 128);
static_assert(mx_scale_byte(0.0f, Element::kE2M1, MxScaleRule::kUpstreamFp4, 0) == 105);
static_assert(mx_scale_byte(7.25f, Element::kE2M1, MxScaleRule::kCeilX, 7.25f) == 128);
static_assert(mx_scale_byte(7.24f, Element::kE2M1, MxScaleRule::kCeilX, 7.25f) == 127);

// --- elements ------------------------------------------------------------------------------------

MZ_HD uint8_t mx_element_from_float(float v, Element element, Rounding rounding) {
  if (element == Element::kE2M1) return e2m1_from_float(v, rounding);
  return element == Element::kE4M3 ? e4m3_from_float(v, rounding) : e5m2_from_float(v, rounding);
}

MZ_HD float mx_element_to_float(uint8_t code, Element element) {
  if (element == Element::kE2M1) return e2m1_to_float(code);
  return element == Element::kE4M3 ? e4m3_to_float(code) : e5m2_to_float(code);
}

// element(x * 2^(127 - byte)), saturating; 0 where the byte is NaN. One multiplication is exact:
// 2^-127, too, is a float, and products that are denormal or overflow have the code 0 or the
// largest whatever their low bits.
MZ_HD uint8_t mx_code(float x, uint8_t scale_byte, Element element, Rounding rounding) {
  if (scale_byte == kE8M0NaN) return 0;
  const float reciprocal = e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - scale_byte));
  return mx_element_from_float(x * reciprocal, element, rounding);
}
static_assert(mx_code(64.0f, 128, Element::kE4M3, Rounding::kHalfEven) == 0x60);  // 32
static_assert(mx_code(0x1p-127f, 0, Element::kE2M1, Rounding::kHalfEven) == 0x2);
static_assert(mx_code(0x1p127f, 254, Element::kE5M2, Rounding::kHalfEven) == 0x3c);
static_assert(mx_code(1.0f, 255, Element::kE4M3, Rounding::kHalfEven) == 0);

// element * 2^(byte - 127), exact unless it overflows to infinity; NaN where the byte is.
MZ_HD float mx_value(uint8_t code, uint8_t scale_byte, Element element) {
  return mx_element_to_float(code, element) * e8m0_to_float(scale_byte);
}
static_assert(mx_value(0x60, 128, Element::kE4M3) == 64.0f);
static_assert(mx_value(0x1, 0, Element::kE2M1) == 0x1p-128f);

// --- blocks --------------------------------------------------------------------------------------

// One block: x:[count], codes:[count] one per byte, count of [1, 32]; returns the scale's byte. An
// element that is not finite makes it 255 and all codes 0.
MZ_HD uint8_t mx_quantize_block(const float* x, int64_t count, Element element, MxScaleRule rule,
                                Rounding rounding, uint8_t* codes, float ceil_x_constant) {
  uint32_t amax_bits = 0;  // magnitudes order as integers, infinities and NaN above all others
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(absolute(x[i]));
    if (bits > amax_bits) amax_bits = bits;
  }
  const uint8_t byte =
      mx_scale_byte(std::bit_cast<float>(amax_bits), element, rule, ceil_x_constant);
  const bool zeros = byte == kE8M0NaN || (rule == MxScaleRule::kFloor && byte == 0);
  for (int64_t i = 0; i < count; ++i) {
    codes[i] = zeros ? uint8_t{0} : mx_code(x[i], byte, element, rounding);
  }
  return byte;
}

// The same for the rules without a constant, and for kCeilX with the exporter's own.
MZ_HD uint8_t mx_quantize_block(const float* x, int64_t count, Element element, MxScaleRule rule,
                                Rounding rounding, uint8_t* codes) {
  return mx_quantize_block(x, count, element, rule, rounding, codes, kExporterCeilX);
}

}  // namespace mezzotint
