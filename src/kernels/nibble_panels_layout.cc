#include "kernels/nibble_panels_layout.h"

#include <cstring>

#include "kernels/layouts.h"

namespace mezzotint {
namespace {

constexpr uint32_t kLowNibbles = 0x0f0f0f0fu;

// Four codes of a row, one per byte; 0 behind the end of the row. The half byte behind an odd k
// stays what it is, so that unpacking gives it back: rows of x end with zeros there.
uint32_t load_step(const std::byte* row, int64_t k, int64_t k_total) {
  const int64_t count = k_total - k < kNibbleStep ? k_total - k : kNibbleStep;
  uint32_t packed = 0;
  std::memcpy(&packed, row + k / 2, static_cast<size_t>((count + 1) / 2));
  return (packed & 0xfu) | (packed & 0xf0u) << 4 | (packed & 0xf00u) << 8 |
         (packed & 0xf000u) << 12;
}

// The inverse.
void store_step(uint32_t step, int64_t k, int64_t k_total, std::byte* row) {
  const int64_t count = k_total - k < kNibbleStep ? k_total - k : kNibbleStep;
  const uint32_t packed =
      (step & 0xfu) | (step >> 4 & 0xf0u) | (step >> 8 & 0xf00u) | (step >> 12 & 0xf000u);
  std::memcpy(row + k / 2, &packed, static_cast<size_t>((count + 1) / 2));
}

}  // namespace

bool holds_nibble_panels(const QuantScheme& weight, ActivationForm activation) {
  if (weight.element == Element::kE2M1) return is_mx_scheme(weight, activation);
  return weight.element == Element::kInt4 && activation == ActivationForm::kInt8Rows &&
         (weight.granularity == Granularity::kPerChannel ||
          weight.granularity == Granularity::kPerGroup) &&
         !weight.asymmetric;
}

int64_t nibble_panels_bytes(int64_t n, int64_t k, Element element) {
  const bool nibbles = element == Element::kInt4 || element == Element::kE2M1;
  return nibbles ? nibble_panels(n) * nibble_panel_bytes(k) : 0;
}

void pack_nibble_panels(const WeightCodes& codes, std::byte* payload) {
  std::memset(payload, 0,
              static_cast<size_t>(nibble_panels_bytes(codes.n, codes.k, codes.element)));
  const int64_t row_bytes = code_row_bytes(codes.element, codes.k);
  for (int64_t n = 0; n < codes.n; ++n) {
    for (int64_t k = 0; k < codes.k; k += kNibbleStep) {
      const uint32_t step = load_step(codes.data + n * row_bytes, k, codes.k);
      std::byte* place = payload + nibble_offset(n, k, codes.k);
      uint32_t both;
      std::memcpy(&both, place, sizeof both);
      both |= is_high_nibble(n) ? step << 4 : step;
      std::memcpy(place, &both, sizeof both);
    }
  }
}

void unpack_nibble_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes) {
  const int64_t row_bytes = code_row_bytes(shape.element, shape.k);
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int64_t k = 0; k < shape.k; k += kNibbleStep) {
      uint32_t both;
      std::memcpy(&both, payload + nibble_offset(n, k, shape.k), sizeof both);
      const uint32_t step = (is_high_nibble(n) ? both >> 4 : both) & kLowNibbles;
      store_step(step, k, shape.k, codes + n * row_bytes);
    }
  }
}

}  // namespace mezzotint
