// Packing and unpacking of the layouts of panel_layout.h.

#include <cstring>

#include "kernels/layouts.h"
#include "kernels/panel_layout.h"
#include "numerics/nibbles.h"

namespace mezzotint {
namespace {

constexpr uint32_t kNibbleMask = 0xf;
constexpr int64_t kBf16Bytes = 2;

bool is_mx_block(const QuantScheme& weight, ActivationForm activation) {
  return weight.element == Element::kE4M3 && activation == ActivationForm::kMxRows &&
         weight.granularity == Granularity::kMxBlock;
}

bool is_weight_only(const QuantScheme& weight, ActivationForm activation) {
  return activation == ActivationForm::kFloat && (weight.granularity == Granularity::kPerChannel ||
                                                  weight.granularity == Granularity::kPerGroup);
}

}  // namespace

bool holds_byte_panels(const QuantScheme& weight, ActivationForm activation) {
  return is_mx_block(weight, activation) ||
         (weight.element == Element::kInt8 && is_weight_only(weight, activation));
}

bool holds_word_panels(const QuantScheme& weight, ActivationForm activation) {
  return weight.element == Element::kInt4 && is_weight_only(weight, activation);
}

bool holds_bf16_panels(const QuantScheme& weight, ActivationForm activation) {
  return weight.element == Element::kBF16 && activation == ActivationForm::kFloat;
}

int64_t byte_panels_bytes(int64_t n, int64_t k, Element element) {
  const bool bytes = element == Element::kInt8 || element == Element::kE4M3;
  return bytes ? panel_codes(n, k) : 0;
}

int64_t word_panels_bytes(int64_t n, int64_t k, Element element) {
  return element == Element::kInt4 ? panel_codes(n, k) / 2 : 0;
}

int64_t bf16_panels_bytes(int64_t n, int64_t k, Element element) {
  return element == Element::kBF16 ? panel_codes(n, k) * kBf16Bytes : 0;
}

void pack_byte_panels(const WeightCodes& codes, std::byte* payload) {
  std::memset(payload, 0, static_cast<size_t>(panel_codes(codes.n, codes.k)));
  for (int64_t n = 0; n < codes.n; ++n) {
    const std::byte* row = codes.data + n * codes.k;
    std::byte* column = payload + byte_panel_offset(n, 0, codes.k);
    for (int64_t k = 0; k < codes.k; ++k) column[k * kPanelColumns] = row[k];
  }
}

void unpack_byte_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  for (int64_t n = 0; n < shape.n; ++n) {
    const std::byte* column = payload + byte_panel_offset(n, 0, shape.k);
    std::byte* row = codes + n * shape.k;
    for (int64_t k = 0; k < shape.k; ++k) row[k] = column[k * kPanelColumns];
  }
}

void pack_word_panels(const WeightCodes& codes, std::byte* payload) {
  std::memset(payload, 0, static_cast<size_t>(panel_codes(codes.n, codes.k) / 2));
  auto* words = reinterpret_cast<uint32_t*>(payload);
  const int64_t row_bytes = nibbles_along_k_bytes(codes.k);
  for (int64_t n = 0; n < codes.n; ++n) {
    const auto* row = reinterpret_cast<const uint8_t*>(codes.data) + n * row_bytes;
    uint32_t* column = words + word_panel_offset(n, 0, codes.k);
    for (int64_t k = 0; k < codes.k; ++k) {
      column[k / kPanelStep * kPanelColumns] |= static_cast<uint32_t>(nibble_along_k(row, k))
                                                << word_panel_shift(k);
    }
    // The unused high nibble of an odd k comes back too: packing is a bijection on bytes.
    if (codes.k % 2 != 0) {
      column[codes.k / kPanelStep * kPanelColumns] |=
          static_cast<uint32_t>(nibble_along_k(row, codes.k)) << word_panel_shift(codes.k);
    }
  }
}

void unpack_word_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  const auto* words = reinterpret_cast<const uint32_t*>(payload);
  const int64_t row_bytes = nibbles_along_k_bytes(shape.k);
  for (int64_t n = 0; n < shape.n; ++n) {
    const uint32_t* column = words + word_panel_offset(n, 0, shape.k);
    const auto code = [&](int64_t k) {
      return column[k / kPanelStep * kPanelColumns] >> word_panel_shift(k) & kNibbleMask;
    };
    auto* row = reinterpret_cast<uint8_t*>(codes) + n * row_bytes;
    for (int64_t i = 0; i < row_bytes; ++i) row[i] = nibble_pair(code(2 * i), code(2 * i + 1));
  }
}

void pack_bf16_panels(const WeightCodes& codes, std::byte* payload) {
  std::memset(payload, 0, static_cast<size_t>(panel_codes(codes.n, codes.k) * kBf16Bytes));
  for (int64_t n = 0; n < codes.n; ++n) {
    for (int64_t k = 0; k < codes.k; ++k) {
      std::memcpy(payload + bf16_panel_offset(n, k, codes.k) * kBf16Bytes,
                  codes.data + (n * codes.k + k) * kBf16Bytes, kBf16Bytes);
    }
  }
}

void unpack_bf16_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int64_t k = 0; k < shape.k; ++k) {
      std::memcpy(codes + (n * shape.k + k) * kBf16Bytes,
                  payload + bf16_panel_offset(n, k, shape.k) * kBf16Bytes, kBf16Bytes);
    }
  }
}

}  // namespace mezzotint
