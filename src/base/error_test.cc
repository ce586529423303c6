#include "mezzotint/error.h"

#include <gtest/gtest.h>

namespace mezzotint {
namespace {

TEST(Error, SaysWhatExpectedGotPlaceAndFix) {
  const Error e(ErrorCode::kInput, "weight_scale has the wrong shape",
                {.layer = "blocks.3.attn.to_q",
                 .file = "q.safetensors",
                 .expected = "[3072,1]",
                 .found = "[9216,1]",
                 .fix = "export again from split q/k/v weights"});
  EXPECT_STREQ(e.what(),
               "weight_scale has the wrong shape: expected [3072,1], got [9216,1] "
               "(layer blocks.3.attn.to_q, file q.safetensors)\n"
               "  fix: export again from split q/k/v weights");
  EXPECT_EQ(e.code(), ErrorCode::kInput);
  EXPECT_EQ(e.details().layer, "blocks.3.attn.to_q");
}

TEST(Error, LeavesOutWhatIsEmpty) {
  EXPECT_STREQ(Error(ErrorCode::kUsage, "no algorithm").what(), "no algorithm");
  EXPECT_STREQ(Error(ErrorCode::kUsage, "bad", {.found = "7"}).what(), "bad: got 7");
  EXPECT_STREQ(Error(ErrorCode::kUsage, "bad", {.expected = "8"}).what(), "bad: expected 8");
  EXPECT_STREQ(Error(ErrorCode::kUsage, "bad", {.tensor = "w"}).what(), "bad (tensor w)");
}

TEST(Error, EscapesControlCharactersAndInvalidUtf8) {
  const Error e(ErrorCode::kInput, "bad", {.tensor = "a\x1b[31m\xff\xc2\x9b\n\xc3\xa9"});
  EXPECT_STREQ(e.what(), "bad (tensor a\\x1b[31m\\xff\\xc2\\x9b\\x0a\xc3\xa9)");
}

TEST(Error, ShortensVeryLongDetails) {
  const Error e(ErrorCode::kInput, "bad", {.tensor = std::string(5'000'000, 'x')});
  EXPECT_LT(std::string(e.what()).size(), 1100u);
  EXPECT_NE(std::string(e.what()).find("(5000000 bytes)"), std::string::npos);
}

TEST(Error, CodesAreExitCodes) {
  EXPECT_EQ(static_cast<int>(ErrorCode::kInput), 3);
  EXPECT_EQ(static_cast<int>(ErrorCode::kInterrupted), 130);
}

}  // namespace
}  // namespace mezzotint
