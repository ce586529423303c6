#include "quant/recipe.h"

#include <gtest/gtest.h>

#include <string>

#include "format/expect_error.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

Recipe parsed(const std::string& text) { return parse_recipe("dir/r.yaml", text); }

TEST(Recipe, SaysWhatTheCommandLineCouldSay) {
  const Recipe recipe = parsed(R"(
mezzotint: 1
model: {preset: none}
defaults: {algo: w4a16_gptq, group_size: 128, weight: {method: gptq}, act: {method: percentile}}
rules:
  - {match: "a.*", algo: w8a16, why: "sensitive"}
  - {match: ["re:b[0-9]", c], except: ["b7"], algo: float}
exclude: ["*.norm*"]
attention: {algo: fp8_dynamic, rotate: hadamard, match: "x.*", head_dim: 64, exclude: [x.0]}
calibration: {stats: s.safetensors, smooth: none}
timestep: static 2-3
output: {format: mindie, max_shard_size: 5kB}
gates: {min_sqnr_db: 18.5}
)");
  const ExportOptions& o = recipe.options;
  EXPECT_EQ(o.preset, "none");
  EXPECT_EQ(o.algorithm, "w4a16_gptq");
  EXPECT_EQ(o.group_size, 128);
  EXPECT_EQ(o.calibration.feedback, ErrorFeedback::kAlways);
  EXPECT_EQ(o.calibration.range, RangeRule::kPercentile);
  ASSERT_EQ(o.rules.size(), 3u);
  EXPECT_EQ(o.rules[0].reason, "sensitive");
  EXPECT_EQ(o.rules[1].reason, "recipe r.yaml");
  EXPECT_EQ(o.rules[2].pattern, "c");
  EXPECT_EQ(o.rules[2].except, std::vector<std::string>{"b7"});
  EXPECT_EQ(o.exclude, std::vector<std::string>{"*.norm*"});
  ASSERT_EQ(o.attentions.size(), 1u);
  EXPECT_EQ(o.attentions[0].pattern, "x.*");
  EXPECT_EQ(o.attentions[0].head_dim, 64);
  EXPECT_EQ(o.attentions[0].except, std::vector<std::string>{"x.0"});
  EXPECT_EQ(o.calibration.statistics, fs::path("dir/s.safetensors"));
  EXPECT_EQ(o.calibration.smoothing, Smoothing::kNone);
  EXPECT_EQ(o.timestep_policy->text(), "static 2-3");
  EXPECT_EQ(o.max_shard_bytes, 5000);
  EXPECT_EQ(recipe.least_sqnr_db, 18.5);
}

// The recipe that the format was designed after, word for word but for its name of a preset.
TEST(Recipe, OfTheDesignIsReadAsItStands) {
  TestFolder folder;
  fs::create_directory(folder / "calib");
  write_text(folder / "calib/stats.safetensors", "");
  const Recipe recipe = parse_recipe(folder / "r.yaml", R"(
mezzotint: 1
model: {preset: wan, names: diffusers}
defaults: {algo: w4a4_mxfp4, group_size: 32, weight: {method: mse}, act: {method: minmax}}
rules:                                  # first match wins
  - {match: "blocks.[0-4].*", algo: w8a8_mxfp8}
  - {match: "re:.*(time|text)_embedding.*", algo: float, why: "tiny, sensitive"}
attention: {algo: fp8_dynamic, rotate: hadamard, exclude: ["blocks.0.*"]}
timestep: {dynamic: "0.0..0.5", static: "0.5..1.0"}
calibration: {data: ./calib, samples: 32}
output: {format: mindie, max_shard_size: 5GB}
gates: {min_sqnr_db: 18}
)");
  EXPECT_EQ(recipe.options.preset, "wan");
  EXPECT_EQ(recipe.step_shares,
            (std::vector<StepShare>{{.mode = StepMode::kDynamic, .first = 0, .last = 0.5},
                                    {.mode = StepMode::kStatic, .first = 0.5, .last = 1}}));
  EXPECT_FALSE(recipe.options.timestep_policy.has_value());
  EXPECT_EQ(recipe.options.calibration.statistics.filename(), "stats.safetensors");
  ASSERT_EQ(recipe.notes.size(), 1u);
  EXPECT_NE(recipe.notes[0].find("mezzotint collect --prompts 32"), std::string::npos);
}

TEST(Recipe, DataIsAFileOfStatisticsOrTheFolderOfOne) {
  TestFolder folder;
  const auto parse = [&](const char* calibration) {
    return parse_recipe(folder / "r.yaml", std::string("mezzotint: 1\ncalibration: ") + calibration)
        .options.calibration.statistics.lexically_normal();
  };
  EXPECT_EQ(parse("{data: s.safetensors}"), folder / "s.safetensors");
  fs::create_directory(folder / "calib");
  const auto refuse = [&](const char* calibration, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::kInput, parts, [&] { parse(calibration); });
  };
  refuse("{data: calib}", {"'data'", "with 0", "mezzotint collect MODEL -o"});
  write_text(folder / "calib/a.safetensors", "");
  EXPECT_EQ(parse("{data: calib}"), folder / "calib/a.safetensors");
  write_text(folder / "calib/b.safetensors", "");
  refuse("{data: calib}", {"'data'", "with 2", "stats merge"});
  refuse("{data: calib, stats: s.safetensors}", {"'data'", "both"});
}

TEST(Recipe, KeepsDefaultsThatItDoesNotName) {
  const ExportOptions o = parsed("mezzotint: 1").options;
  EXPECT_EQ(o.preset, "auto");
  EXPECT_EQ(o.algorithm, "");
  EXPECT_TRUE(o.rules.empty());
  EXPECT_TRUE(o.calibration.statistics.empty());
}

TEST(Recipe, IsJsonToo) {
  EXPECT_EQ(parsed(R"({"mezzotint": 1, "defaults": {"algo": "w8a16"}})").options.algorithm,
            "w8a16");
}

TEST(Recipe, ReadsWhatIsWritten) {
  TestFolder folder;
  ExportOptions how;
  how.preset = "none";
  how.group_size = 32;
  how.rules = {{.pattern = "a.\"b\\", .algorithm = "w8a16", .reason = "31.5 dB: fits"},
               {.pattern = "c", .algorithm = "float", .reason = "line\nbreak", .except = {"d, e"}}};
  how.calibration = {.statistics = folder / "sub/stats.safetensors",
                     .range = RangeRule::kMinMax,
                     .smoothing = Smoothing::kNone,
                     .feedback = ErrorFeedback::kAlways,
                     .order = FeedbackOrder::kByEnergy,
                     .static_tolerance = 1.25};
  how.attentions = {
      {.algorithm = "fp8_dynamic", .pattern = "a:\"b", .head_dim = 64, .except = {"c"}},
      {.algorithm = "fp8_dynamic"}};
  const fs::path file = folder / "r.yaml";
  write_text(file, recipe_text(file, how, "a title\nmezzotint: 2"));
  const ExportOptions o = read_recipe(file).options;
  EXPECT_EQ(o.preset, "none");
  EXPECT_EQ(o.group_size, 32);
  ASSERT_EQ(o.rules.size(), 2u);
  EXPECT_EQ(o.rules[0].pattern, how.rules[0].pattern);
  EXPECT_EQ(o.rules[1].reason, how.rules[1].reason);
  EXPECT_EQ(o.rules[1].except, how.rules[1].except);
  EXPECT_EQ(fs::weakly_canonical(o.calibration.statistics),
            fs::weakly_canonical(how.calibration.statistics));
  ASSERT_EQ(o.attentions.size(), 2u);
  EXPECT_EQ(o.attentions[0].algorithm, "fp8_dynamic");
  EXPECT_EQ(o.attentions[0].pattern, how.attentions[0].pattern);
  EXPECT_EQ(o.attentions[0].head_dim, 64);
  EXPECT_EQ(o.attentions[0].except, how.attentions[0].except);
  EXPECT_EQ(o.attentions[1].pattern, "");
  EXPECT_EQ(o.calibration.range, how.calibration.range);
  EXPECT_EQ(o.calibration.smoothing, how.calibration.smoothing);
  EXPECT_EQ(o.calibration.feedback, how.calibration.feedback);
  EXPECT_EQ(o.calibration.order, how.calibration.order);
  how.calibration.feedback = ErrorFeedback::kByName;
  how.calibration.order = FeedbackOrder::kStored;
  const Calibration by_name = parse_recipe(file, recipe_text(file, how, "")).options.calibration;
  EXPECT_EQ(by_name.feedback, how.calibration.feedback);
  EXPECT_EQ(by_name.order, how.calibration.order);
  EXPECT_EQ(o.calibration.static_tolerance, how.calibration.static_tolerance);
  // Statistics below the recipe's folder are found wherever both move.
  EXPECT_NE(file_text(file).find("stats: \"sub/stats.safetensors\""), std::string::npos);
}

TEST(Recipe, NamesWhatItDoesNotKnow) {
  const auto refuse = [](const std::string& text, std::initializer_list<std::string_view> parts) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::kInput, parts, [&] { parsed(text); });
  };
  refuse("{mezzotint: 1, rule: []}", {"recipe key 'rule'", "did you mean rules", "r.yaml:1"});
  refuse("mezzotint: 1\ndefaults: {algo: x}\ndefaults: {algo: y}\n",
         {"'defaults'", "twice", "r.yaml:3"});
  refuse("{mezzotint: 2}", {"version 1", "got 2"});
  refuse("{rules: []}", {"'mezzotint'", "got nothing"});
  refuse("{mezzotint: 1, rules: [{match: x}]}", {"'algo'"});
  refuse("{mezzotint: 1, rules: [{match: [], algo: float}]}", {"'match'", "an empty list"});
  refuse("{mezzotint: 1, rules: {a: b}}", {"'rules'", "a list"});
  refuse("{mezzotint: 1, exclude: [{a: b}]}", {"'exclude'", "a list of names"});
  refuse("{mezzotint: 1, defaults: {group_size: many}}", {"'group_size'", "got many"});
  refuse("{mezzotint: 1, defaults: {group_size: -4}}", {"'group_size'", "1 or more"});
  refuse("{mezzotint: 1, defaults: {act: {method: minmx}}}",
         {"one of mse, minmax, percentile", "got minmx", "did you mean minmax"});
  refuse("{mezzotint: 1, calibration: {dato: ./calib}}", {"'dato'", "did you mean data"});
  refuse("{mezzotint: 1, calibration: {samples: few}}", {"'samples'", "got few"});
  refuse("{mezzotint: 1, model: {names: mine}}", {"'names'", "diffusers", "got mine"});
  refuse("{mezzotint: 1, defaults: {weight: {method: gptq, act_order: maybe}}}",
         {"'act_order'", "got maybe"});
  refuse("{mezzotint: 1, attention: [{algo: fp8_dynamic}, {match: x}]}", {"'algo'"});
  refuse("{mezzotint: 1, calibration: {static_tolerance: -1}}",
         {"'static_tolerance'", "0 or more"});
  refuse("{mezzotint: 1, output: {max_shard_size: big}}", {"5GB", "got big"});
  refuse("{mezzotint: 1, timestep: sometimes}", {"'timestep'", "r.yaml:1", "got sometimes"});
  refuse("{mezzotint: 1, timestep: {late: \"0.5..1\"}}", {"'late'", "dynamic, static"});
  refuse("{mezzotint: 1, timestep: {static: \"1..0.5\"}}",
         {"'static'", "r.yaml:1", "FIRST..LAST", "got 1..0.5"});
  refuse("{mezzotint: 1, gates: {min_sqnr_db: [1]}}", {"'min_sqnr_db'", "a list"});
  refuse("[1, 2", {"YAML"});
  refuse("- 1", {"a map"});
  refuse("", {"a map"});
  refuse("apiversion: v9\n", {"apiversion", "got v9"});
  expect_error(ErrorCode::kUsage, {"'['"}, [] { parsed("{mezzotint: 1, exclude: ['a[']}"); });
}

TEST(Recipe, SurvivesHostileText) {
  const auto refuse = [](const std::string& text) {
    expect_error(ErrorCode::kInput, {"recipe key '(text)'"}, [&] { parsed(text); });
  };
  refuse(std::string(100'000, '['));
  refuse(std::string(100'000, '{'));
  refuse(std::string((1 << 20) + 1, ' '));
  refuse("a: *nowhere");
  // Ten levels of ten aliases each: 10^10 scalars if anybody walked them.
  std::string bomb = "a0: &a0 [x]\n";
  for (int i = 1; i < 11; ++i) {
    std::string list;
    for (int j = 0; j < 10; ++j) list += "*a" + std::to_string(i - 1) + ", ";
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + list + "]\n";
  }
  expect_error(ErrorCode::kInput, {"recipe key 'a0'"}, [&] { parsed(bomb); });
}

TEST(Recipe, MustBeAFile) {
  TestFolder folder;
  for (const fs::path& file : {folder / "none.yaml", folder.path()}) {
    expect_error(ErrorCode::kInput, {"cannot be read"}, [&] { read_recipe(file); });
  }
  expect_error(ErrorCode::kInput, {"the recipe is too large"}, [] { read_recipe("/dev/zero"); });
}

}  // namespace
}  // namespace mezzotint
