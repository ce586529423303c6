// Where a code stands in the layout kNibblePanels: int4 or e2m1 in panels of 32 outputs, in blocks
// of 32 k (an MX block) of 512 bytes.
//
// A block is 8 steps of 4 k, 64 bytes each: byte 4 c + i holds k = i of the step for the outputs c
// (low nibble) and 16 + c (high nibble). One load, a mask and a table look-up give the 16 x 4 bytes
// that vpdpbusd multiplies; a shift gives the other 16 outputs. n and k are padded with zeros.
#pragma once

#include <cstdint>

namespace mezzotint {

constexpr int64_t kNibblePanel = 32;      // outputs
constexpr int64_t kNibbleBlock = 32;      // k
constexpr int64_t kNibbleStep = 4;        // k of one dot product
constexpr int64_t kNibbleStepBytes = 64;  // kNibblePanel * kNibbleStep nibbles
constexpr int64_t kNibbleBlockBytes = kNibbleBlock / kNibbleStep * kNibbleStepBytes;

constexpr int64_t nibble_blocks(int64_t k) { return (k + kNibbleBlock - 1) / kNibbleBlock; }
constexpr int64_t nibble_panels(int64_t n) { return (n + kNibblePanel - 1) / kNibblePanel; }
constexpr int64_t nibble_panel_bytes(int64_t k) { return nibble_blocks(k) * kNibbleBlockBytes; }

// The byte of an output's code; in its high nibble where is_high_nibble(n).
constexpr int64_t nibble_offset(int64_t n, int64_t k, int64_t k_total) {
  return n / kNibblePanel * nibble_panel_bytes(k_total) + k / kNibbleStep * kNibbleStepBytes +
         n % (kNibblePanel / 2) * kNibbleStep + k % kNibbleStep;
}
constexpr bool is_high_nibble(int64_t n) { return n % kNibblePanel >= kNibblePanel / 2; }
static_assert(nibble_offset(1, 2, 32) == 6 && nibble_offset(17, 2, 32) == 6);
static_assert(nibble_offset(0, 4, 32) == 64 && nibble_offset(32, 33, 33) == 3 * 512 + 1);

}  // namespace mezzotint
