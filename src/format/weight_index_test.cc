#include "format/weight_index.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace mezzotint {
namespace {

WeightIndex parse(const std::string& text) {
  return parse_index(std::as_bytes(std::span(text.data(), text.size())), "m.index.json");
}

TEST(WeightIndex, ReadsTheMapAndListsEachShardOnce) {
  const WeightIndex index =
      parse(R"({"metadata":{"total_size":12,"x":[1]},"weight_map":{"b":"m-2.safetensors",)"
            R"("a":"m-1.safetensors","c":"m-1.safetensors"},"extra":null})");
  EXPECT_EQ(index.total_size, 12);
  EXPECT_EQ(index.shards, (std::vector<std::string>{"m-1.safetensors", "m-2.safetensors"}));
  EXPECT_EQ(index.weight_map.at("b"), "m-2.safetensors");
}

TEST(WeightIndex, IgnoresATotalSizeThatIsNoInteger) {
  for (const char* size : {"1.5", "\"12\"", "1e99", "99999999999999999999", "{}"}) {
    EXPECT_EQ(parse(std::string(R"({"metadata":{"total_size":)") + size +
                    R"(},"weight_map":{"a":"s.safetensors"}})")
                  .total_size,
              std::nullopt);
  }
}

TEST(WeightIndex, RejectsAMissingEmptyOrWrongMap) {
  expect_error(ErrorCode::kInput, {"no weight_map", "m.index.json"}, [] { parse("{}"); });
  expect_error(ErrorCode::kInput, {"no weight_map"}, [] { parse("[]"); });
  expect_error(ErrorCode::kInput, {"no weight_map", "got a list"},
               [] { parse(R"({"weight_map":[]})"); });
  expect_error(ErrorCode::kInput, {"is empty"}, [] { parse(R"({"weight_map":{}})"); });
  expect_error(ErrorCode::kInput, {"not a file name: got a number", "tensor a"},
               [] { parse(R"({"weight_map":{"a":1}})"); });
}

TEST(WeightIndex, RejectsNamesThatAreNotPlainFileNames) {
  for (const char* name :
       {"../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a\\\\b.safetensors",
        "..safetensors", ".safetensors", "", "x.bin", "c:x.safetensors", "a\\u0000.safetensors",
        "a\\n.safetensors", "..", "https://h/x.safetensors"}) {
    expect_error(ErrorCode::kInput, {"not a plain .safetensors file name", "tensor t"},
                 [&] { parse(std::string(R"({"weight_map":{"t":")") + name + "\"}}"); });
  }
  const std::string long_name = std::string(300, 'x') + ".safetensors";
  EXPECT_THROW(parse(R"({"weight_map":{"t":")" + long_name + "\"}}"), Error);
}

TEST(WeightIndex, RejectsDuplicateTensorsAndDeepJson) {
  expect_error(ErrorCode::kInput, {"stands twice", "\"a\""},
               [] { parse(R"({"weight_map":{"a":"s.safetensors","a":"t.safetensors"}})"); });
  expect_error(ErrorCode::kInput, {"nested too deeply", "m.index.json"},
               [] { parse("{\"metadata\":" + std::string(100'000, '[')); });
}

TEST(WeightIndex, WritesWhatItReads) {
  const WeightIndex index = {{{"a", "m-1.safetensors"}, {"b\n", "m-2.safetensors"}},
                             {"m-1.safetensors", "m-2.safetensors"},
                             34};
  const std::string text = index_text(index, "0123");
  EXPECT_EQ(text,
            "{\n  \"metadata\": {\n    \"mezzotint_run\": \"0123\",\n    \"total_size\": 34\n  },\n"
            "  \"weight_map\": {\n    \"a\": \"m-1.safetensors\",\n"
            "    \"b\\n\": \"m-2.safetensors\"\n  }\n}\n");
  EXPECT_EQ(parse(text).weight_map, index.weight_map);
}

}  // namespace
}  // namespace mezzotint
