// Where a code stands in the layout kInt8Vnni: u8 = code + 128 in panels [n/32][k/4][32][4].
//
// One vpdpbusd multiplies 16 x 4 unsigned bytes (the weights of 16 outputs) by 4 signed bytes (the
// activations, broadcast): a panel of 32 outputs is two registers per step of 4 k, read in order.
// The +128 that makes weights unsigned adds 128 * sum(x) to every output, which rows subtract.
#pragma once

#include <cstdint>

namespace mezzotint {

constexpr int64_t kVnniPanel = 32;  // outputs of a panel: two zmm registers of 16
constexpr int64_t kVnniStep = 4;    // k of one dot product
constexpr int32_t kVnniOffset = 128;

constexpr int64_t vnni_steps(int64_t k) { return (k + kVnniStep - 1) / kVnniStep; }
constexpr int64_t vnni_panels(int64_t n) { return (n + kVnniPanel - 1) / kVnniPanel; }
constexpr int64_t vnni_panel_bytes(int64_t k) { return vnni_steps(k) * kVnniPanel * kVnniStep; }

constexpr int64_t vnni_offset(int64_t n, int64_t k, int64_t k_total) {
  return n / kVnniPanel * vnni_panel_bytes(k_total) +
         (k / kVnniStep * kVnniPanel + n % kVnniPanel) * kVnniStep + k % kVnniStep;
}
static_assert(vnni_offset(0, 3, 8) == 3 && vnni_offset(1, 0, 8) == 4);
static_assert(vnni_offset(0, 4, 8) == 128 && vnni_offset(33, 5, 8) == 256 + 128 + 4 + 1);

}  // namespace mezzotint
