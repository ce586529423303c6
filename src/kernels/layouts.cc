#include "kernels/layouts.h"

#include <cstring>

#include "base/check.h"
#include "kernels/int8_vnni_layout.h"

namespace mezzotint {
namespace {

bool is_float(Element element) {
  return element == Element::kF32 || element == Element::kBF16 || element == Element::kF16;
}

bool is_integer_scheme(const QuantScheme& weight) {
  return weight.granularity == Granularity::kPerChannel ||
         weight.granularity == Granularity::kPerGroup;
}

}  // namespace

bool is_mx_scheme(const QuantScheme& weight, ActivationForm activation) {
  return activation == ActivationForm::kMxRows && (weight.granularity == Granularity::kMxBlock ||
                                                   weight.granularity == Granularity::kDualLevel);
}

int64_t element_row_bytes(Element element, int64_t k) {
  if (element == Element::kF32) return 4 * k;
  return is_float(element) ? 2 * k : code_row_bytes(element, k);
}

DType element_dtype(Element element) {
  switch (element) {
    case Element::kF32:
      return DType::kF32;
    case Element::kBF16:
      return DType::kBF16;
    case Element::kF16:
      return DType::kF16;
    case Element::kInt8:
      return DType::kI8;
    case Element::kE4M3:
      return DType::kF8E4M3;
    case Element::kE5M2:
      return DType::kF8E5M2;
    case Element::kInt4:
    case Element::kE2M1:
      return DType::kU8;
  }
  return DType::kU8;
}

bool holds_float(const QuantScheme& weight, ActivationForm activation) {
  return is_float(weight.element) && activation == ActivationForm::kFloat;
}

bool holds_int8(const QuantScheme& weight, ActivationForm) {
  return weight.element == Element::kInt8 && is_integer_scheme(weight);
}

bool holds_nibbles(const QuantScheme& weight, ActivationForm activation) {
  if (weight.element == Element::kInt4) return is_integer_scheme(weight);
  return weight.element == Element::kE2M1 && is_mx_scheme(weight, activation);
}

bool holds_e4m3(const QuantScheme& weight, ActivationForm activation) {
  return weight.element == Element::kE4M3 && is_mx_scheme(weight, activation);
}

bool holds_int8_codes_x(const QuantScheme& weight, ActivationForm activation) {
  return weight.element == Element::kInt8 && activation == ActivationForm::kInt8Rows &&
         weight.granularity == Granularity::kPerChannel && !weight.asymmetric;
}

int64_t float_rows_bytes(int64_t n, int64_t k, Element element) {
  return is_float(element) ? n * element_row_bytes(element, k) : 0;
}

int64_t int8_rows_bytes(int64_t n, int64_t k, Element element) {
  return element == Element::kInt8 ? n * k : 0;
}

int64_t nibble_rows_bytes(int64_t n, int64_t k, Element element) {
  const bool nibbles = element == Element::kInt4 || element == Element::kE2M1;
  return nibbles ? n * code_row_bytes(element, k) : 0;
}

int64_t e4m3_rows_bytes(int64_t n, int64_t k, Element element) {
  return element == Element::kE4M3 ? n * k : 0;
}

void copy_rows(const WeightCodes& codes, std::byte* payload) {
  std::memcpy(payload, codes.data,
              static_cast<size_t>(codes.n * element_row_bytes(codes.element, codes.k)));
}

void copy_rows_back(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  std::memcpy(codes, payload,
              static_cast<size_t>(shape.n * element_row_bytes(shape.element, shape.k)));
}

int64_t int8_vnni_bytes(int64_t n, int64_t k, Element element) {
  return element == Element::kInt8 ? vnni_panels(n) * vnni_panel_bytes(k) : 0;
}

// int8 + 128 as u8 is the byte with its sign bit flipped.
constexpr std::byte kSignBit{0x80};
constexpr uint32_t kSignBits = 0x80808080u;

void pack_int8_vnni(const WeightCodes& codes, std::byte* payload) {
  std::memset(payload, kVnniOffset,
              static_cast<size_t>(int8_vnni_bytes(codes.n, codes.k, codes.element)));
  const int64_t whole = codes.k / kVnniStep * kVnniStep;
  for (int64_t n = 0; n < codes.n; ++n) {
    const std::byte* row = codes.data + n * codes.k;
    for (int64_t k = 0; k < whole; k += kVnniStep) {
      uint32_t step;
      std::memcpy(&step, row + k, sizeof step);
      step ^= kSignBits;
      std::memcpy(payload + vnni_offset(n, k, codes.k), &step, sizeof step);
    }
    for (int64_t k = whole; k < codes.k; ++k) {
      payload[vnni_offset(n, k, codes.k)] = row[k] ^ kSignBit;
    }
  }
}

void unpack_int8_vnni(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  for (int64_t n = 0; n < shape.n; ++n) {
    std::byte* row = codes + n * shape.k;
    for (int64_t k = 0; k < shape.k; ++k) row[k] = payload[vnni_offset(n, k, shape.k)] ^ kSignBit;
  }
}

}  // namespace mezzotint
