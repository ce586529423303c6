#include "base/glob.h"

#include <gtest/gtest.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

bool matches(const char* pattern, const char* name) { return NamePattern(pattern).matches(name); }

TEST(Glob, StarCrossesDots) {
  EXPECT_TRUE(matches("blocks.*.attn", "blocks.3.attn"));
  EXPECT_TRUE(matches("blocks.*.attn", "blocks.3.x.attn"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*attn*", "blocks.0.attn.to_q"));
  EXPECT_FALSE(matches("blocks.*.attn", "blocks.3.attn.to_q"));
}

TEST(Glob, MatchesTheWholeNameAndItsCase) {
  EXPECT_TRUE(matches("proj_out", "proj_out"));
  EXPECT_FALSE(matches("proj", "proj_out"));
  EXPECT_FALSE(matches("out", "proj_out"));
  EXPECT_FALSE(matches("Proj_out", "proj_out"));
}

TEST(Glob, QuestionMarkIsExactlyOneCharacter) {
  EXPECT_TRUE(matches("b?c", "b.c"));
  EXPECT_FALSE(matches("b?c", "bc"));
  EXPECT_FALSE(matches("b?", "bcd"));
}

TEST(Glob, DotIsADot) { EXPECT_FALSE(matches("a.b", "axb")); }

TEST(Glob, BracketsAreSetsRangesAndNegations) {
  EXPECT_TRUE(matches("to_[qkv]", "to_k"));
  EXPECT_FALSE(matches("to_[qkv]", "to_o"));
  EXPECT_TRUE(matches("blocks.[0-4].*", "blocks.3.ff"));
  EXPECT_FALSE(matches("blocks.[0-4].*", "blocks.5.ff"));
  EXPECT_FALSE(matches("blocks.[0-4].*", "blocks.13.ff"));
  EXPECT_TRUE(matches("b[!0-4]", "b7"));
  EXPECT_FALSE(matches("b[!0-4]", "b4"));
  EXPECT_TRUE(matches("a[]x]", "a]"));
  EXPECT_TRUE(matches("a[!]]", "ax"));
  EXPECT_FALSE(matches("a[!]]", "a]"));
  EXPECT_TRUE(matches("a[x-]", "a-"));
}

TEST(Glob, StarsBacktrack) {
  EXPECT_TRUE(matches("*ab*ab", "abxabab"));
  EXPECT_TRUE(matches("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches("a*b*c", "aXcYb"));
  EXPECT_TRUE(matches("a*[0-9]", "a.b.7"));
}

TEST(Glob, ManyStarsTakeNoExponentialTime) {
  const std::string name(20'000, 'a');
  EXPECT_FALSE(NamePattern("*a*a*a*a*a*a*a*a*a*a*b").matches(name));
}

TEST(Glob, RejectsAnOpenBracketAndAnEmptyPattern) {
  for (const char* text : {"a[bc", "a[", "a[!", "a[]", "a[!]", ""}) {
    EXPECT_THROW(NamePattern{text}, Error) << text;
  }
}

TEST(Glob, ALiteralPatternMatchesItsNameAlone) {
  for (const char* name : {"a.b", "a[0]*?.b", "re:a.c", "]["}) {
    const std::string pattern = literal_pattern(name);
    EXPECT_TRUE(matches(pattern.c_str(), name)) << pattern;
    EXPECT_FALSE(matches(pattern.c_str(), (std::string(name) + "x").c_str())) << pattern;
  }
  EXPECT_FALSE(matches(literal_pattern("a*b").c_str(), "axb"));
  EXPECT_FALSE(matches(literal_pattern("re:a.c").c_str(), "abc"));
}

TEST(Regex, MatchesTheWholeName) {
  EXPECT_TRUE(matches("re:blocks\\.[0-4]\\..*", "blocks.3.attn"));
  EXPECT_FALSE(matches("re:blocks\\.[0-4]\\..*", "blocks.7.attn"));
  EXPECT_FALSE(matches("re:attn", "blocks.3.attn"));
  EXPECT_TRUE(matches("re:.*(time|text)_embedding.*", "x.text_embedding.linear"));
}

TEST(Regex, RejectsABadOneNamingIt) {
  try {
    NamePattern("re:a(b");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("\"re:a(b\""), std::string::npos) << e.what();
  }
}

TEST(Regex, RejectsANameThatWouldExhaustTheStack) {
  const std::string name(1'000'000, 'a');
  EXPECT_THROW(NamePattern("re:(a|b)*").matches(name), Error);
}

}  // namespace
}  // namespace mezzotint
