#include "format/json_tree.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace mezzotint {
namespace {

JsonValue parse(std::string_view text, const JsonLimits& limits = {}) {
  return parse_json(std::as_bytes(std::span(text.data(), text.size())), "f.json", limits);
}

std::string nested(int levels) {
  const auto n = static_cast<size_t>(levels);
  return std::string(n, '[') + std::string(n, ']');
}

TEST(JsonTree, KeepsOrderAndTheTextOfNumbers) {
  const JsonValue v = parse(R"({"z":1.50e3,"a":[true,null,-7,"x"],"m":{}})");
  EXPECT_EQ(json_text(v, 0), R"({"z": 1.50e3, "a": [true, null, -7, "x"], "m": {}})");
  ASSERT_NE(v.find("a"), nullptr);
  EXPECT_EQ(v.find("a")->items.size(), 4u);
  EXPECT_EQ(v.find("b"), nullptr);
}

TEST(JsonTree, WritesWhatPythonWritesWithIndentFour) {
  EXPECT_EQ(json_text(parse(R"({"a":{"b":[1,"é😀\u007f\n"]},"c":[]})"), 4),
            "{\n    \"a\": {\n        \"b\": [\n            1,\n"
            "            \"\\u00e9\\ud83d\\ude00\\u007f\\n\"\n        ]\n    },\n"
            "    \"c\": []\n}");
}

TEST(JsonTree, LimitsTheDepth) {
  EXPECT_NO_THROW(parse(nested(64)));
  expect_error(ErrorCode::kInput, {"nested too deeply: expected at most 64 levels", "f.json"},
               [] { parse(nested(65)); });
  EXPECT_THROW(parse(nested(1'000'000)), Error);
}

TEST(JsonTree, LimitsBytesAndValues) {
  expect_error(ErrorCode::kInput, {"too large: expected at most 4 bytes, got 5", "f.json"},
               [] { parse("[1,2]", {.max_bytes = 4}); });
  expect_error(ErrorCode::kInput, {"too many values", "f.json"},
               [] { parse("[1,2,3]", {.max_values = 2}); });
}

TEST(JsonTree, RejectsDuplicateKeysAtEveryLevelNamingThem) {
  expect_error(ErrorCode::kInput, {"stands twice", "\"k\"", "f.json"},
               [] { parse(R"({"k":1,"j":2,"k":3})"); });
  expect_error(ErrorCode::kInput, {"stands twice", "\"k\""},
               [] { parse(R"({"a":[{"k":1,"\u006b":3}]})"); });
  EXPECT_NO_THROW(parse(R"([{"k":1},{"k":2}])"));
}

TEST(JsonTree, OverruledKeysHaveTheLastValueInTheFirstPlace) {
  const std::string_view text = R"({"k":1,"j":{"a":1,"a":2},"k":3,"k":4})";
  std::vector<std::string> overruled;
  const JsonValue value =
      parse_json(std::as_bytes(std::span(text.data(), text.size())), "f.json", {}, &overruled);
  EXPECT_EQ(json_text(value, 0), R"({"k": 4, "j": {"a": 2}})");
  EXPECT_EQ(overruled, (std::vector<std::string>{"a", "k", "k"}));
}

TEST(JsonTree, RejectsAByteOrderMark) {
  expect_error(ErrorCode::kInput, {"byte order mark", "f.json"}, [] { parse("\xef\xbb\xbf{}"); });
}

TEST(JsonTree, RejectsWhatIsNotJson) {
  for (const char* text : {"", " ", "{", "{}x", "{'a':1}", "[1,]", "nan", "\"\xff\"", "{\"a\"}"}) {
    expect_error(ErrorCode::kInput, {"the file is not valid JSON: got parse error", "f.json"},
                 [&] { parse(text); });
  }
  expect_error(ErrorCode::kInput, {"not valid JSON: got a zero byte at 2", "f.json"},
               [] { parse(std::string_view("{}\0{}", 5)); });
}

}  // namespace
}  // namespace mezzotint
