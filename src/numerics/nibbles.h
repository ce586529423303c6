// Codes of four bits in bytes and words, each order by its name. A code stands in the low four bits
// of a byte of its own before packing; the upper four are ignored.
#pragma once

#include <cstdint>

#include "numerics/host_device.h"

namespace mezzotint {

// --- one byte ------------------------------------------------------------------------------------

MZ_HD uint8_t nibble_pair(unsigned low, unsigned high) {
  return static_cast<uint8_t>((low & 15u) | (high & 15u) << 4);
}
MZ_HD uint8_t low_nibble(uint8_t byte) { return byte & 15u; }
MZ_HD uint8_t high_nibble(uint8_t byte) { return byte >> 4; }
static_assert(nibble_pair(1, 2) == 0x21 && low_nibble(0x21) == 1 && high_nibble(0x21) == 2);

// Two's complement: [-8, 7].
MZ_HD int int4_from_nibble(unsigned nibble) {
  return static_cast<int>((nibble & 15u) ^ 8u) - 8;  // 8..15 are -8..-1
}
MZ_HD uint8_t nibble_from_int4(int code) {
  return static_cast<uint8_t>(static_cast<unsigned>(code) & 15u);
}
static_assert(int4_from_nibble(7) == 7 && int4_from_nibble(8) == -8 && int4_from_nibble(15) == -1);
static_assert(nibble_from_int4(-8) == 8 && nibble_from_int4(-1) == 15);

// --- pairs along k: [n, k] -> [n, ceil(k/2)], even k in the low nibble ---------------------------

// Bytes of one row.
MZ_HD int64_t nibbles_along_k_bytes(int64_t k) { return (k + 1) / 2; }

// Eight codes, the first in the lowest byte, as four bytes.
MZ_HD uint32_t nibble_pairs(uint64_t codes) {
  codes &= 0x0f0f0f0f0f0f0f0fu;
  codes = (codes | codes >> 4) & 0x00ff00ff00ff00ffu;
  codes = (codes | codes >> 8) & 0x0000ffff0000ffffu;
  return static_cast<uint32_t>(codes | codes >> 16);
}
static_assert(nibble_pairs(0x0807060504030201u) == 0x87654321u);
static_assert(nibble_pairs(0xf8f7f6f5f4f3f2f1u) == 0x87654321u);

// One row, codes:[k] -> packed:[ceil(k/2)]; the last high nibble of an odd k is 0.
MZ_HD void pack_nibbles_along_k(const uint8_t* codes, int64_t k, uint8_t* packed) {
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {  // at once: a tenth of the instructions
    uint64_t eight = 0;
    __builtin_memcpy(&eight, codes + i, sizeof eight);
    const uint32_t pairs = nibble_pairs(eight);
    __builtin_memcpy(packed + i / 2, &pairs, sizeof pairs);
  }
  for (; i + 1 < k; i += 2) packed[i / 2] = nibble_pair(codes[i], codes[i + 1]);
  if (k % 2 != 0) packed[k / 2] = nibble_pair(codes[k - 1], 0);
}

// Element i of such a row.
MZ_HD uint8_t nibble_along_k(const uint8_t* packed, int64_t i) {
  return i % 2 == 0 ? low_nibble(packed[i / 2]) : high_nibble(packed[i / 2]);
}

// --- pairs along n: [n, k] -> [n/2, k], even n in the low nibble ---------------------------------

// Rows 2j and 2j + 1, codes:[k] each -> row j, packed:[k].
MZ_HD void pack_nibbles_along_n(const uint8_t* even_row, const uint8_t* odd_row, int64_t k,
                                uint8_t* packed) {
  for (int64_t i = 0; i < k; ++i) packed[i] = nibble_pair(even_row[i], odd_row[i]);
}

// Element i of row `row` of [n, k]; packed:[n/2, k].
MZ_HD uint8_t nibble_along_n(const uint8_t* packed, int64_t k, int64_t row, int64_t i) {
  const uint8_t byte = packed[row / 2 * k + i];
  return row % 2 == 0 ? low_nibble(byte) : high_nibble(byte);
}

// --- eight in a 32-bit word: element i in the bits 4i..4i+3 --------------------------------------

inline constexpr int64_t kNibblesPerWord = 8;

MZ_HD uint32_t nibble_word(const uint8_t* codes) {
  uint32_t word = 0;
  for (int64_t i = 0; i < kNibblesPerWord; ++i) word |= (codes[i] & 15u) << (4 * i);
  return word;
}

MZ_HD uint8_t nibble_of_word(uint32_t word, int64_t i) {
  return static_cast<uint8_t>((word >> (4 * i)) & 15u);
}
static_assert(nibble_of_word(0x87654321u, 0) == 1 && nibble_of_word(0x87654321u, 7) == 8);

}  // namespace mezzotint
