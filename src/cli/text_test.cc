#include "cli/text.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>

namespace mezzotint::cli {
namespace {

TEST(HumanBytes, UsesDecimalUnitsWithOneDigit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.0 kB");
  EXPECT_EQ(human_bytes(18'688'680), "18.7 MB");
  EXPECT_EQ(human_bytes(23'802'000'000), "23.8 GB");
}

TEST(HumanBytes, RoundsUpIntoTheNextUnit) {
  EXPECT_EQ(human_bytes(999'949), "999.9 kB");
  EXPECT_EQ(human_bytes(999'951), "1.0 MB");
}

TEST(HumanClock, ShowsHoursOnlyWhenThereAreAny) {
  EXPECT_EQ(human_clock(0), "0:00");
  EXPECT_EQ(human_clock(51.2), "0:51");
  EXPECT_EQ(human_clock(725), "12:05");
  EXPECT_EQ(human_clock(3750), "1:02:30");
  EXPECT_EQ(human_clock(-1), "0:00");
}

TEST(HumanSeconds, PicksTheUnit) {
  EXPECT_EQ(human_seconds(0.0851), "85.1 ms");
  EXPECT_EQ(human_seconds(3.21), "3.2 s");
  EXPECT_EQ(human_seconds(250), "4 min 10 s");
}

TEST(HumanCount, GroupsDigitsByThree) {
  EXPECT_EQ(human_count(7), "7");
  EXPECT_EQ(human_count(1000), "1 000");
  EXPECT_EQ(human_count(9338880), "9 338 880");
  EXPECT_EQ(human_count(-123456), "-123 456");
}

TEST(ShellQuoted, QuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(shell_quoted("out/w8a8_dynamic"), "out/w8a8_dynamic");
  EXPECT_EQ(shell_quoted("*.norm*=float"), "'*.norm*=float'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted(""), "''");
}

TEST(Printable, NeutralizesTerminalEscapes) {
  EXPECT_EQ(printable("a\033[31mb\n"), "a\\x1b[31mb\\x0a");
  EXPECT_EQ(printable("caf\u00e9"), "caf\u00e9");
}

TEST(Ellipsized, KeepsTheEndOfALongName) {
  EXPECT_EQ(ellipsized("proj_out", 8), "proj_out");
  const std::string cut = ellipsized("single_transformer_blocks.11.proj_mlp", 20);
  EXPECT_EQ(cut.size(), 20u);
  EXPECT_TRUE(cut.ends_with(".proj_mlp")) << cut;
  EXPECT_TRUE(cut.starts_with("singl...")) << cut;
  EXPECT_EQ(ellipsized("abcdef", 2), "ab");
}

TEST(Plural, FollowsTheCount) {
  EXPECT_EQ(plural(1, "layer"), "1 layer");
  EXPECT_EQ(plural(0, "layer"), "0 layers");
}

}  // namespace
}  // namespace mezzotint::cli
