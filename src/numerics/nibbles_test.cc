#include "numerics/nibbles.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

namespace mezzotint {
namespace {

using Row = std::array<uint8_t, 8>;

Row codes_from(int first) {
  Row codes;
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = nibble_from_int4(first + static_cast<int>(i));
  }
  return codes;
}

TEST(Nibbles, SignOfEveryCode) {
  for (int code = -8; code < 8; ++code) {
    EXPECT_EQ(int4_from_nibble(nibble_from_int4(code)), code);
    EXPECT_EQ(int4_from_nibble(nibble_from_int4(code) | 0xf0u), code);  // upper bits are ignored
  }
}

TEST(Nibbles, EveryByteIsItsPair) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto b = static_cast<uint8_t>(byte);
    EXPECT_EQ(nibble_pair(low_nibble(b), high_nibble(b)), byte);
    EXPECT_EQ(low_nibble(b), byte % 16);
    EXPECT_EQ(high_nibble(b), byte / 16);
  }
}

// The rows -8..-1 and 0..7 in both orders.
TEST(Nibbles, WorkedRowsAlongKAndN) {
  const Row rows[] = {codes_from(-8), codes_from(0)};
  std::array<uint8_t, 8> k_packed = {};
  for (size_t n = 0; n < 2; ++n) pack_nibbles_along_k(rows[n].data(), 8, &k_packed[4 * n]);
  EXPECT_EQ(k_packed, (std::array<uint8_t, 8>{0x98, 0xba, 0xdc, 0xfe, 0x10, 0x32, 0x54, 0x76}));
  std::array<uint8_t, 8> n_packed = {};
  pack_nibbles_along_n(rows[0].data(), rows[1].data(), 8, n_packed.data());
  EXPECT_EQ(n_packed, (std::array<uint8_t, 8>{0x08, 0x19, 0x2a, 0x3b, 0x4c, 0x5d, 0x6e, 0x7f}));
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t i = 0; i < 8; ++i) {
      const uint8_t code = rows[static_cast<size_t>(n)][static_cast<size_t>(i)];
      EXPECT_EQ(nibble_along_k(&k_packed[static_cast<size_t>(4 * n)], i), code);
      EXPECT_EQ(nibble_along_n(n_packed.data(), 8, n, i), code);
    }
  }
}

// npu_convert_weight_to_int4pack: the ints 1, 2, ... 8 make 0x87654321.
TEST(Nibbles, WordHoldsElementIInBits4I) {
  const Row ascending = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(nibble_word(ascending.data()), 0x87654321u);
  const Row negative = codes_from(-8);
  EXPECT_EQ(nibble_word(negative.data()), 0xfedcba98u);
  for (int64_t i = 0; i < kNibblesPerWord; ++i) {
    EXPECT_EQ(nibble_of_word(0xfedcba98u, i), negative[static_cast<size_t>(i)]);
  }
}

TEST(Nibbles, RowsOfEveryLengthHoldTheirCodes) {
  std::mt19937 rng(48);
  for (int64_t k = 1; k <= 40; ++k) {
    std::vector<uint8_t> codes(static_cast<size_t>(k));
    for (uint8_t& code : codes) code = static_cast<uint8_t>(rng());
    std::vector<uint8_t> packed(static_cast<size_t>(nibbles_along_k_bytes(k)) + 1, 0x55);
    pack_nibbles_along_k(codes.data(), k, packed.data());
    for (int64_t i = 0; i < k; ++i) {
      ASSERT_EQ(nibble_along_k(packed.data(), i), codes[static_cast<size_t>(i)] & 15) << k;
    }
    EXPECT_EQ(packed.back(), 0x55) << k;
  }
}

TEST(Nibbles, OddRowsEndInAZeroNibble) {
  for (int64_t k = 1; k <= 9; ++k) {
    const std::vector<uint8_t> codes(static_cast<size_t>(k), 0x0f);
    std::vector<uint8_t> packed(static_cast<size_t>(nibbles_along_k_bytes(k)) + 1, 0x55);
    pack_nibbles_along_k(codes.data(), k, packed.data());
    for (int64_t i = 0; i < k; ++i) EXPECT_EQ(nibble_along_k(packed.data(), i), 0x0f);
    if (k % 2 != 0) {
      EXPECT_EQ(nibble_along_k(packed.data(), k), 0);
    }
    EXPECT_EQ(packed.back(), 0x55);  // nothing behind the row
  }
}

TEST(Nibbles, UpperBitsOfACodeDoNotReachItsNeighbour) {
  std::mt19937 rng(47);
  Row noisy;
  Row clean;
  for (size_t i = 0; i < noisy.size(); ++i) {
    noisy[i] = static_cast<uint8_t>(rng());
    clean[i] = noisy[i] & 15;
  }
  std::array<uint8_t, 4> a = {};
  std::array<uint8_t, 4> b = {};
  pack_nibbles_along_k(noisy.data(), 8, a.data());
  pack_nibbles_along_k(clean.data(), 8, b.data());
  EXPECT_EQ(a, b);
  EXPECT_EQ(nibble_word(noisy.data()), nibble_word(clean.data()));
}

}  // namespace
}  // namespace mezzotint
