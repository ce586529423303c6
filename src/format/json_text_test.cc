#include "format/json_text.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace mezzotint {
namespace {

TEST(JsonQuote, EscapesLikePython) {
  EXPECT_EQ(json_quote("a\"\\/\b\f\n\r\t\x01\x7f", JsonEscape::kAscii),
            R"("a\"\\/\b\f\n\r\t\u0001\u007f")");
  EXPECT_EQ(json_quote("\xe2\x82\xac", JsonEscape::kAscii), R"("\u20ac")");
  EXPECT_EQ(json_quote("\xf0\x9f\x98\x80", JsonEscape::kAscii), R"("\ud83d\ude00")");
}

TEST(JsonQuote, KeepsUtf8WhereAsked) {
  EXPECT_EQ(json_quote("\xe2\x82\xac\x01", JsonEscape::kUtf8), "\"\xe2\x82\xac\\u0001\"");
}

TEST(JsonQuote, RejectsInvalidUtf8) {
  expect_error(ErrorCode::kUsage, {"not valid UTF-8", "a\\xff"},
               [] { json_quote("a\xff", JsonEscape::kUtf8); });
}

}  // namespace
}  // namespace mezzotint
