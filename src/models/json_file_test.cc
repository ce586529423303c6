#include "models/json_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_config.h"
#include "models/flux_testing.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

fs::path write(const std::string& text) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("json"));
  testing::write_text(folder / "config.json", text);
  return folder / "config.json";
}

std::string message_of(const std::string& text, const std::function<void(const JsonFile&)>& use) {
  try {
    use(JsonFile::read(write(text)));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_contains(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) EXPECT_NE(text.find(part), text.npos) << text;
}

TEST(JsonFile, ReadsEveryKindOfValue) {
  const JsonFile json = JsonFile::read(write(R"({"i": -3, "x": 2.5, "b": true, "s": "text",
    "n": null, "is": [1, 2], "xs": [1, 0.5], "ss": ["a"], "o": {"k": 1}, "os": [{}, {}]})"));
  EXPECT_EQ(json.integer("i", -5), -3);
  EXPECT_EQ(json.number("x"), 2.5);
  EXPECT_EQ(json.number("i"), -3);
  EXPECT_TRUE(json.boolean("b"));
  EXPECT_EQ(json.string("s"), "text");
  EXPECT_FALSE(json.has("n"));
  EXPECT_FALSE(json.has("none"));
  EXPECT_TRUE(json.has("b"));
  EXPECT_EQ(json.integers("is", 1), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(json.numbers("xs"), (std::vector<double>{1, 0.5}));
  EXPECT_EQ(json.strings("ss"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(json.object("o").integer("k", 0), 1);
  EXPECT_EQ(json.objects("os").size(), 2u);
}

TEST(JsonFile, NamesFileKeyAndWhatWasFound) {
  const auto check = [](const char* text, const std::function<void(const JsonFile&)>& use,
                        std::initializer_list<std::string_view> parts) {
    const std::string message = message_of(text, use);
    expect_contains(message, parts);
    expect_contains(message, {"config.json"});
  };
  check("{}", [](const JsonFile& j) { j.integer("k", 0); }, {"'k'", "no such key"});
  check(R"({"k": 1.5})", [](const JsonFile& j) { j.integer("k", 0); }, {"'k'", "1.5"});
  check(R"({"k": 1e3})", [](const JsonFile& j) { j.integer("k", 0); }, {"'k'", "1e3"});
  check(R"({"k": 1})", [](const JsonFile& j) { j.integer("k", 2); }, {"at least 2", "got 1"});
  check(R"({"k": 99999999999999999999})", [](const JsonFile& j) { j.integer("k", 0); }, {"'k'"});
  check(R"({"k": "1"})", [](const JsonFile& j) { j.number("k"); }, {"a number"});
  check(R"({"k": 1})", [](const JsonFile& j) { j.boolean("k"); }, {"true or false"});
  check(R"({"k": 1})", [](const JsonFile& j) { j.string("k"); }, {"a string"});
  check(R"({"k": [1, "2"]})", [](const JsonFile& j) { j.numbers("k"); }, {"an array of numbers"});
  check(R"({"k": [1, -2]})", [](const JsonFile& j) { j.integers("k", 0); }, {"at least 0"});
  check(R"({"k": [{"x": 1}, {}]})", [](const JsonFile& j) { j.objects("k").at(1).integer("x", 0); },
        {"'k[1].x'"});
  check("[1]", [](const JsonFile& j) { j.integer("k", 0); }, {"'k'"});
}

TEST(JsonFile, RefusesWhatIsNotJson) {
  const auto nothing = [](const JsonFile&) {};
  expect_contains(message_of("{", nothing), {"config.json"});
  expect_contains(message_of("", nothing), {"config.json"});
  expect_contains(message_of(std::string(200, '['), nothing), {"config.json"});
  EXPECT_THROW(JsonFile::read(testing::scratch_path("no_such_file.json")), Error);
  EXPECT_THROW(JsonFile::read(testing::scratch_path("")), Error);
}

TEST(FluxConfig, ReadsWhatDiffusersWrites) {
  const FluxConfig config = read_flux_config(fs::path(MZ_SOURCE_DIR) / "demo" / "transformer");
  EXPECT_EQ(config.width(), 256);
  EXPECT_EQ(config.out_channels, 64);  // null in the file
  EXPECT_EQ(config.velocity_channels(), 64);
}

// As published with FLUX.1-dev: neither out_channels nor axes_dims_rope.
TEST(FluxConfig, ReadsAnOlderFluxFile) {
  const FluxConfig config = read_flux_config(write(R"({"_class_name": "FluxTransformer2DModel",
    "_diffusers_version": "0.30.0.dev0", "attention_head_dim": 128, "guidance_embeds": true,
    "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19,
    "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768})"));
  FluxConfig expected;
  expected.guidance_embeds = true;
  EXPECT_EQ(config, expected);
}

TEST(FluxConfig, NamesFileAndKeyOfAFault) {
  const std::string good = testing::config_json(FluxConfig{});
  EXPECT_EQ(read_flux_config(write(good)), FluxConfig{});
  const std::pair<std::string, std::string> faults[] = {
      {R"("in_channels")", R"("channels_in")"},
      {R"("num_layers": 19)", R"("num_layers": -1)"},
      {R"("guidance_embeds": false)", R"("guidance_embeds": 0)"},
      {"[16, 56, 56]", "[16, 56]"},
      {"[16, 56, 56]", "[17, 55, 56]"},
      {"FluxTransformer2DModel", "SD3Transformer2DModel"}};
  for (const auto& [from, to] : faults) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    std::string message = "no error";
    try {
      read_flux_config(write(text));
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("config.json"), message.npos) << to << ": " << message;
  }
}

}  // namespace
}  // namespace mezzotint
