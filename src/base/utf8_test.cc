#include "base/utf8.h"

#include <gtest/gtest.h>

namespace mezzotint {
namespace {

TEST(Utf8, DecodesEveryLength) {
  EXPECT_EQ(first_code_point("A").value, 0x41u);
  EXPECT_EQ(first_code_point("\xc3\xa9").value, 0xe9u);
  EXPECT_EQ(first_code_point("\xe2\x82\xac").value, 0x20acu);
  EXPECT_EQ(first_code_point("\xf0\x9f\x98\x80").value, 0x1f600u);
  EXPECT_EQ(first_code_point("\xf0\x9f\x98\x80").bytes, 4u);
}

TEST(Utf8, RejectsWhatIsIllFormed) {
  for (const char* text :
       {"\x80", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\xaf",
        "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "\xe2\x82"}) {
    EXPECT_FALSE(is_valid_utf8(text)) << text;
  }
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("plain \xe2\x82\xac text"));
  EXPECT_FALSE(is_valid_utf8("plain \xe2\x82 text"));
}

}  // namespace
}  // namespace mezzotint
