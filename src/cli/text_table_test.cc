#include "cli/text_table.h"

#include <gtest/gtest.h>

namespace mezzotint::cli {
namespace {

const TextTable kTable{{{"name"}, {"bytes", Align::kRight}},
                       {{"a", "5"}, {"caf\u00e9 x", "12345"}}};

TEST(TextTable, AlignsColumnsByDisplayWidth) {
  EXPECT_EQ(to_text(kTable), "name    bytes\na           5\ncaf\u00e9 x  12345\n");
}

TEST(TextTable, LeavesNoTrailingBlanks) {
  const TextTable table{{{"a"}, {"b"}}, {{"long cell", ""}}};
  EXPECT_EQ(to_text(table), "a          b\nlong cell\n");
}

TEST(TextTable, EscapesPipesInMarkdown) {
  const TextTable table{{{"a|b"}, {"n", Align::kRight}}, {{"x|y", "1"}}};
  EXPECT_EQ(to_markdown(table), "| a\\|b | n |\n|---|---:|\n| x\\|y | 1 |\n");
}

TEST(TextTable, NeutralizesTerminalEscapes) {
  const TextTable table{{{"a"}}, {{"\033[2J"}}};
  EXPECT_EQ(to_text(table), "a\n\\x1b[2J\n");
}

}  // namespace
}  // namespace mezzotint::cli
