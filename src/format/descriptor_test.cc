#include "format/descriptor.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

Descriptor parse(std::string_view text) {
  return parse_descriptor(std::as_bytes(std::span(text.data(), text.size())), "d.json");
}

constexpr std::string_view kOurs =
    "{\n"
    "    \"z.weight\": \"W8A8_DYNAMIC\",\n"
    "    \"a.bias\": \"FLOAT\",\n"
    "    \"\\u00e9.weight\": \"FLOAT\",\n"
    "    \"group_size\": 64,\n"
    "    \"metadata\": {\n"
    "        \"mezzotint\": {\n"
    "            \"run\": \"0123\",\n"
    "            \"version\": \"0.1.0\"\n"
    "        }\n"
    "    },\n"
    "    \"model_quant_type\": \"W8A8_DYNAMIC\"\n"
    "}";

TEST(Descriptor, ReadsLabelsInFileOrderFactsAndOtherKeys) {
  const Descriptor d = parse(kOurs);
  EXPECT_EQ(d.model_quant_type, "W8A8_DYNAMIC");
  ASSERT_EQ(d.labels.size(), 3u);
  EXPECT_EQ(d.labels[0].first, "z.weight");
  EXPECT_EQ(d.labels[2].first, "\xc3\xa9.weight");
  EXPECT_EQ(*d.label("a.bias"), "FLOAT");
  EXPECT_EQ(d.label("b"), nullptr);
  EXPECT_EQ(d.facts.at("run"), "0123");
  EXPECT_EQ(d.other_keys, "{\"group_size\": 64}");
}

TEST(Descriptor, WriteOfReadIsTheSameBytes) { EXPECT_EQ(descriptor_text(parse(kOurs)), kOurs); }

TEST(Descriptor, ReadOfWriteIsTheSame) {
  Descriptor d;
  d.labels = {{"b.weight", "W4A16"}, {"a.weight", "FLOAT"}};
  const Descriptor plain = parse(descriptor_text(d));
  EXPECT_EQ(plain.labels, d.labels);
  EXPECT_EQ(plain.model_quant_type, "");
  EXPECT_EQ(plain.other_keys, "{}");
  EXPECT_TRUE(plain.facts.empty());
}

// The three shapes that upstream's exporters write.
TEST(Descriptor, ReadsUpstreamFiles) {
  const Descriptor d = parse(
      R"({"model_quant_type": "W4A16", "version": "1.0.0", "group_size": 64,
          "txt_in.weight": "FLOAT", "m.fc1.weight": "W4A16", "blocks.4.self_attn.quant_type":
          "FP8_DYNAMIC", "fa_quant_type": "FAKQuant", "kv_quant_type": "C8", "kv_cache_type": "C8",
          "reduce_quant_type": "per_channel", "metadata": {"quarot": {"a": [1.0]}},
          "optional": {}, "odd": 7, "list": ["FLOAT"]})");
  EXPECT_EQ(d.labels.size(), 3u);
  EXPECT_NE(d.label("blocks.4.self_attn.quant_type"), nullptr);
  EXPECT_EQ(
      d.other_keys,
      R"({"version": "1.0.0", "group_size": 64, "fa_quant_type": "FAKQuant", )"
      R"("kv_quant_type": "C8", "kv_cache_type": "C8", "reduce_quant_type": "per_channel", )"
      R"("metadata": {"quarot": {"a": [1.0]}}, "optional": {}, "odd": 7, "list": ["FLOAT"]})");
  const Descriptor again = parse(descriptor_text(d));
  EXPECT_EQ(again.labels, d.labels);
  EXPECT_EQ(again.other_keys, d.other_keys);
}

TEST(Descriptor, OurFactsJoinForeignMetadata) {
  Descriptor d = parse(R"({"w": "FLOAT", "metadata": {"quarot": {}}, "optional": {}})");
  d.facts["run"] = "77";
  const std::string text = descriptor_text(d);
  const Descriptor again = parse(text);
  EXPECT_EQ(again.facts, d.facts);
  EXPECT_EQ(again.other_keys, d.other_keys);
  EXPECT_EQ(descriptor_text(again), text);
}

TEST(Descriptor, TheTypeIsUpperCased) {
  EXPECT_EQ(parse(R"({"w":"FLOAT","model_quant_type":"w8a8"})").model_quant_type, "W8A8");
}

TEST(Descriptor, RejectsHostileFiles) {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {"", "not valid JSON"},
      {"{\"w\":\"FLOAT\"", "not valid JSON"},
      {"[\"w\"]", "not a JSON object: got a list"},
      {"\"w\"", "not a JSON object"},
      {"{}", "labels no tensor"},
      {R"({"version":"1.0.0"})", "labels no tensor"},
      {"\xef\xbb\xbf{\"w\":\"FLOAT\"}", "byte order mark"},
      {R"({"w":"FLOAT","w":"W8A8"})", "stands twice in the JSON: got \"w\""},
      {R"({"w":"FLOAT","model_quant_type":8})", "model_quant_type is not a string: got a number"},
      {R"({"w":"FLOAT","model_quant_type":"../../etc/x"})", "not a plain name"},
      {R"({"w":"FLOAT","model_quant_type":"A\u0000B"})", "not a plain name"},
      {R"({"w":"FLOAT","metadata":{"mezzotint":[]}})", "metadata.mezzotint is not an object"},
      {R"({"w":"FLOAT","metadata":{"mezzotint":{"run":1}}})", "not a string: got run: a number"},
      {"{\"w\":\"FL\xffOAT\"}", "not valid JSON"},
  };
  for (const Case& c : cases) {
    expect_error(ErrorCode::kInput, {c.message, "d.json"}, [&] { parse(c.text); });
  }
  expect_error(ErrorCode::kInput, {"nested too deeply", "d.json"},
               [] { parse("{\"optional\":" + std::string(100'000, '[')); });
}

TEST(Descriptor, RefusesToWriteWhatItCouldNotRead) {
  expect_error(ErrorCode::kUsage, {"reserved key", "tensor version"},
               [] { descriptor_text({.labels = {{"version", "FLOAT"}}}); });
  expect_error(ErrorCode::kUsage, {"twice", "\"w\""},
               [] { descriptor_text({.labels = {{"w", "FLOAT"}, {"w", "W8A8"}}}); });
  expect_error(ErrorCode::kUsage, {"twice", "model_quant_type"}, [] {
    descriptor_text({.model_quant_type = "W8A8", .labels = {{"model_quant_type", "FLOAT"}}});
  });
  EXPECT_THROW(descriptor_text({.labels = {{"w", "F"}}, .other_keys = "[]"}), Error);
  EXPECT_THROW(descriptor_text({.labels = {{"w", "F"}}, .other_keys = "{"}), Error);
}

TEST(Descriptor, FilesRoundTrip) {
  const TempFolder folder;
  const auto file = folder.path() / "quant_model_description.json";
  write_descriptor(file, parse(kOurs));
  EXPECT_EQ(file_bytes(file), kOurs);
  EXPECT_EQ(read_descriptor(file).facts.at("version"), "0.1.0");
  expect_error(ErrorCode::kInput, {"cannot open the file", "none.json"},
               [&] { read_descriptor(folder.path() / "none.json"); });
}

}  // namespace
}  // namespace mezzotint
