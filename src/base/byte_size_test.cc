#include "base/byte_size.h"

#include <gtest/gtest.h>

#include <optional>

namespace mezzotint {
namespace {

TEST(ParseBytes, ReadsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_bytes("5GB"), 5'000'000'000);
  EXPECT_EQ(parse_bytes("5GiB"), 5'368'709'120);
  EXPECT_EQ(parse_bytes("5g"), 5'000'000'000);
  EXPECT_EQ(parse_bytes("0.5 MB"), 500'000);
  EXPECT_EQ(parse_bytes("1048576"), 1'048'576);
  EXPECT_EQ(parse_bytes("12B"), 12);
}

TEST(ParseBytes, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "GB", "5XB", "-1GB", "0", "0.2B", "5GBs", "1e400", "99999999999TB"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace mezzotint
