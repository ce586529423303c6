#include "cli/progress.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "cli/interrupt.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

struct Fixture {
  double now = 100;
  std::ostringstream err;
  Progress progress;

  explicit Fixture(ProgressMode mode, int columns = 80)
      : progress(err, mode, columns, "quantizing", [this] { return now; }) {}
};

TEST(Progress, PlainModeWritesALineEveryFiveSeconds) {
  Fixture f(ProgressMode::kPlain);
  for (int second = 0; second <= 12; ++second) {
    f.now = 100 + second;
    f.progress.update(second, 20, "blocks.0", "SQNR 38.2 dB");
  }
  f.progress.finish();
  EXPECT_EQ(f.err.str(),
            "quantizing: 0%  blocks.0  SQNR 38.2 dB\n"
            "quantizing: 25%  blocks.0  SQNR 38.2 dB  0:15 left\n"
            "quantizing: 50%  blocks.0  SQNR 38.2 dB  0:10 left\n"
            "quantizing: done in 12.0 s\n");
}

TEST(Progress, BarShowsShareItemNoteAndTimeLeft) {
  Fixture f(ProgressMode::kBar);
  f.now = 160;
  f.progress.update(54, 100, "single_transformer_blocks.11.proj_mlp", "SQNR 38.2 dB");
  EXPECT_EQ(
      f.err.str(),
      "\r\033[K[##############------------]  54%  singl...11.proj_mlp  SQNR 38.2 dB  0:51 left");
}

TEST(Progress, BarNeverWrapsTheLine) {
  for (const int columns : {1, 20, 40, 79}) {
    Fixture f(ProgressMode::kBar, columns);
    f.now = 101;
    f.progress.update(1, 2, "a.very.long.layer.name.that.does.not.fit", "SQNR 38.2 dB");
    EXPECT_LT(f.err.str().size(), static_cast<size_t>(columns) + 4 + 1) << columns;
  }
}

TEST(Progress, BarIsRedrawnAtMostTenTimesASecond) {
  Fixture f(ProgressMode::kBar);
  for (int i = 0; i < 1000; ++i) {
    f.now += 0.001;
    f.progress.update(i, 1000, "layer");
  }
  size_t draws = 0;
  for (const char c : f.err.str()) draws += c == '\r';
  EXPECT_LE(draws, 11u);
  EXPECT_GE(draws, 9u);
}

TEST(Progress, BarIsWipedWhenAnExceptionEndsTheWork) {
  std::ostringstream err;
  {
    Progress progress(err, ProgressMode::kBar, 80, "x");
    progress.update(1, 2, "layer");
  }
  EXPECT_TRUE(err.str().ends_with("\r\033[K"));
}

TEST(Progress, NoneIsSilent) {
  Fixture f(ProgressMode::kNone);
  f.progress.update(1, 2, "layer");
  f.progress.finish();
  EXPECT_EQ(f.err.str(), "");
}

TEST(Progress, ItemsCannotDriveTheTerminal) {
  Fixture f(ProgressMode::kPlain);
  f.progress.update(0, 1, "evil\033[2J");
  EXPECT_EQ(f.err.str(), "quantizing: 0%  evil\\x1b[2J\n");
}

TEST(Progress, ThrowsAfterAnInterrupt) {
  Fixture f(ProgressMode::kNone);
  request_interrupt();
  try {
    f.progress.update(1, 2, "layer");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
  clear_interrupt();
}

}  // namespace
}  // namespace mezzotint::cli
