#include "quant/step_shares.h"

#include <gtest/gtest.h>

#include <vector>

#include "format/expect_error.h"

namespace mezzotint {
namespace {

constexpr StepShare kLate = {.mode = StepMode::kStatic, .first = 0.5, .last = 1.0};

TEST(StepShares, FollowTheMiddleOfAStep) {
  EXPECT_EQ(policy_of_shares({{kLate}}, 20).text(), "static 10-19");
  EXPECT_EQ(policy_of_shares({{kLate}}, 2).text(), "static 1-1");
  EXPECT_EQ(policy_of_shares({{kLate}}, 5).text(), "static 2-4");  // the middle of step 2 is 0.5
  EXPECT_EQ(policy_of_shares({{kLate}}, 1).text(), "static 0-0");
  EXPECT_EQ(policy_of_shares({}, 20).text(), "dynamic");
}

TEST(StepShares, TheLastOneThatNamesAStepWins) {
  const std::vector<StepShare> shares = {{.mode = StepMode::kStatic, .first = 0, .last = 1},
                                         {.mode = StepMode::kDynamic, .first = 0, .last = 0.25}};
  EXPECT_EQ(policy_of_shares(shares, 8).text(), "static 2-7");
}

TEST(StepShares, AreReadAsTheyAreWritten) {
  EXPECT_EQ(parse_step_share(StepMode::kStatic, "0.5..1.0"), kLate);
  EXPECT_EQ(parse_step_share(StepMode::kDynamic, "0..0.25"),
            (StepShare{.mode = StepMode::kDynamic, .first = 0, .last = 0.25}));
  for (const char* text : {"", "0.5", "0.5-1", "1..0.5", "-0.1..1", "0..1.5", "a..b", "0..1x",
                           "nan..1", "0.2..", "0..1..2"}) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::kInput, {"part of the denoising steps", "FIRST..LAST"},
                 [&] { parse_step_share(StepMode::kStatic, text); });
  }
}

}  // namespace
}  // namespace mezzotint
