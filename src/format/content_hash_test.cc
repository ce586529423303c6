#include "format/content_hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace mezzotint {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(ContentHash, IsXxh3WithSeedZero) {
  // xxhsum -H2 of an empty file and of "abc".
  EXPECT_EQ(to_hex(hash_bytes({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_hex(hash_bytes(bytes("abc"))), "06b05ab6733a618578af5f94892f3950");
}

TEST(ContentHash, OfPiecesEqualsThatOfTheWhole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 7);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{240}, size_t{4999}}) {
    HashStream stream;
    stream.add(bytes(text).first(cut));
    stream.add(std::string_view(text).substr(cut));
    EXPECT_EQ(stream.finish(), hash_bytes(bytes(text)));
  }
  text[3000] ^= 1;
  HashStream other;
  other.add(text);
  text[3000] ^= 1;
  EXPECT_NE(other.finish(), hash_bytes(bytes(text)));
}

TEST(ContentHash, HexRoundTripsAndRejectsAnythingElse) {
  const Hash128 hash = hash_bytes(bytes("x"));
  EXPECT_EQ(hash_from_hex(to_hex(hash)), hash);
  EXPECT_EQ(hash_from_hex(""), std::nullopt);
  EXPECT_EQ(hash_from_hex("99aa06d3014798d86001c324468d497"), std::nullopt);
  EXPECT_EQ(hash_from_hex("99aa06d3014798d86001c324468d497g"), std::nullopt);
  EXPECT_EQ(hash_from_hex("99aa06d3014798 86001c324468d497f0"), std::nullopt);
}

}  // namespace
}  // namespace mezzotint
