// Where a value stands in the layouts kBytePanels, kWordPanels and kBf16Panels: panels of 32
// outputs, k padded to a multiple of 8, one panel after the other. A row of registers then holds
// the same k of many outputs, which float rows of every ISA multiply by one value of x.
//
//   kBytePanels    [n/32][k][32]           int8 or e4m3 codes
//   kWordPanels  [n/32][k/8][32] words   int4 codes of 8 k in 32 bits: k 0, 2, 4, 6 in the lower
//                                          half, 1, 3, 5, 7 in the upper one, so that a shift puts
//                                          a pair of k where a bf16 dot product wants it
//   kBf16Panels    [n/32][k/2][32][2]      pairs of k, as a bf16 dot product reads them
#pragma once

#include <cstdint>

namespace mezzotint {

constexpr int64_t kPanelColumns = 32;
constexpr int64_t kPanelStep = 8;  // k of one word of nibbles

constexpr int64_t panel_k(int64_t k) { return (k + kPanelStep - 1) / kPanelStep * kPanelStep; }
constexpr int64_t panel_count(int64_t n) { return (n + kPanelColumns - 1) / kPanelColumns; }
constexpr int64_t panel_codes(int64_t n, int64_t k) {
  return panel_count(n) * kPanelColumns * panel_k(k);
}

// In bytes.
constexpr int64_t byte_panel_offset(int64_t n, int64_t k, int64_t k_total) {
  return (n / kPanelColumns * panel_k(k_total) + k) * kPanelColumns + n % kPanelColumns;
}
static_assert(byte_panel_offset(1, 0, 9) == 1 && byte_panel_offset(0, 1, 9) == 32);
static_assert(byte_panel_offset(33, 2, 9) == 16 * 32 + 2 * 32 + 1);

// In words of 32 bits; the code stands above bit word_panel_shift().
constexpr int64_t word_panel_offset(int64_t n, int64_t k, int64_t k_total) {
  return (n / kPanelColumns * (panel_k(k_total) / kPanelStep) + k / kPanelStep) * kPanelColumns +
         n % kPanelColumns;
}
constexpr int word_panel_shift(int64_t k) {
  return static_cast<int>(k % kPanelStep / 2 + k % 2 * 4) * 4;
}
static_assert(word_panel_offset(33, 8, 9) == 2 * 32 + 32 + 1);
static_assert(word_panel_shift(0) == 0 && word_panel_shift(1) == 16);
static_assert(word_panel_shift(2) == 4 && word_panel_shift(15) == 28);

// In elements.
constexpr int64_t bf16_panel_offset(int64_t n, int64_t k, int64_t k_total) {
  return (n / kPanelColumns * (panel_k(k_total) / 2) + k / 2) * kPanelColumns * 2 +
         n % kPanelColumns * 2 + k % 2;
}
static_assert(bf16_panel_offset(1, 1, 8) == 3 && bf16_panel_offset(0, 2, 8) == 64);

}  // namespace mezzotint
