#include "base/check.h"

#include <gtest/gtest.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(Check, PassesWhenTrue) { EXPECT_NO_THROW(MZ_CHECK(1 + 1 == 2)); }

TEST(Check, ThrowsInternalWithConditionAndPlace) {
  try {
    MZ_CHECK(1 + 1 == 3);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInternal);
    const std::string text = e.what();
    EXPECT_NE(text.find("1 + 1 == 3 at src/base/check_test.cc:"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace mezzotint
