#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mezzotint {
namespace {

TEST(Log, PassesOnWhatIsAtOrAboveItsLevel) {
  std::vector<std::string> lines;
  const Log info{LogLevel::kInfo,
                 [&](LogLevel, std::string_view text) { lines.emplace_back(text); }};
  log(info, LogLevel::kError, "e");
  log(info, LogLevel::kInfo, "i");
  log(info, LogLevel::kDebug, "d");
  EXPECT_EQ(lines, (std::vector<std::string>{"e", "i"}));
}

TEST(Log, WritesWarningsAndErrorsToStderrByDefault) {
  testing::internal::CaptureStderr();
  log(Log{}, LogLevel::kWarn, "scale is zero");
  log(Log{}, LogLevel::kError, "no file");
  log(Log{}, LogLevel::kInfo, "unseen");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "warning: scale is zero\nerror: no file\n");
}

}  // namespace
}  // namespace mezzotint
