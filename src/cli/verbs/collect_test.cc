// collect, stats and quantize --stats: transcripts and refusals. Killed: collect_killed_test.cc.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/cli_testing.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

class CollectVerb : public testing::TinyPipelineTest {
 protected:
  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"collect", model_,     "-o",  path(out),   "--steps",
                                          "3",       "--tokens", "128", "--prompts", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(CollectVerb, WritesStatisticsOfEveryInput) {
  const CliResult result = run(command("s.safetensors", {"--gram", "*.attn.to_q"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "2 prompts of 3 steps"));
  EXPECT_TRUE(contains(result.out, "wrote  " + path("s.safetensors")));
  EXPECT_TRUE(contains(result.out, "next   mezzotint quantize"));
  EXPECT_FALSE(fs::exists(path("s.safetensors.unfinished.safetensors")));
  const CliResult shown = run({"stats", "show", path("s.safetensors")});
  ASSERT_EQ(shown.code, 0) << shown.err;
  EXPECT_TRUE(contains(shown.out, "transformer_blocks.0.attn.to_q"));
  EXPECT_TRUE(contains(shown.out, "hist, 128 tokens, gram"));
  const nlohmann::json document = run_json({"stats", "show", path("s.safetensors")});
  EXPECT_EQ(document["steps"], 3);
  EXPECT_GT(document["inputs"].size(), 10u);
  // 2 prompts, 3 steps, both branches of the guidance, 64 tokens
  for (const auto& input : document["inputs"]) {
    if (input["name"] == "transformer_blocks.0.attn.to_q") {
      EXPECT_EQ(input["rows"], 2 * 3 * 2 * 64);
    }
  }
}

TEST_F(CollectVerb, MergeAddsRuns) {
  ASSERT_EQ(run(command("a.safetensors")).code, 0);
  ASSERT_EQ(run(command("b.safetensors", {"--seed", "9"})).code, 0);
  const CliResult merged = run({"stats", "merge", path("a.safetensors"), path("b.safetensors"),
                                "-o", path("c.safetensors")});
  ASSERT_EQ(merged.code, 0) << merged.err;
  const auto rows = [&](const char* file) {
    return run_json({"stats", "show", path(file)})["inputs"][0]["rows"].get<int64_t>();
  };
  EXPECT_EQ(rows("c.safetensors"), rows("a.safetensors") + rows("b.safetensors"));
}

TEST_F(CollectVerb, QuantizeReadsWhatItWrote) {
  // 16 steps: 64 rows of the inputs that have one row per image, the fewest that decide anything.
  const CliResult collected =
      run({"collect", model_, "-o", path("s.safetensors"), "--steps", "16", "--gram", "*"});
  ASSERT_EQ(collected.code, 0) << collected.err;
  for (const char* algorithm : {"w8a8", "w8a8_timestep", "w4a16_awq", "w4a16_gptq"}) {
    const CliResult result = run({"quantize", model_, "-o", path(algorithm), "--algo", algorithm,
                                  "--stats", path("s.safetensors")});
    ASSERT_EQ(result.code, 0) << result.err;
    const CliResult image = run({"generate", model_, "--quant", path(algorithm), "--steps", "3",
                                 "--prompt-id", "0", "-o", path(std::string(algorithm) + ".png")});
    EXPECT_EQ(image.code, 0) << image.err;
  }
  const CliResult smooth =
      run({"quantize", model_, "-o", path("x"), "--algo", "w8a8", "--stats", path("s.safetensors"),
           "--smooth", "none", "--range", "minmax", "--gptq"});
  ASSERT_EQ(smooth.code, 0) << smooth.err;
  EXPECT_TRUE(contains(file_text(path("x/quant_model_description_w8a8.json")),
                       "range minmax, smoothing none, feedback always"));
}

TEST_F(CollectVerb, QuantizeRefusesTooShortARun) {
  ASSERT_EQ(run(command("s.safetensors")).code, 0);
  const CliResult result = run(
      {"quantize", model_, "-o", path("q"), "--algo", "w8a8", "--stats", path("s.safetensors")});
  EXPECT_EQ(result.code, 2);
  EXPECT_TRUE(contains(result.err, "too few rows: expected at least 64, got 12")) << result.err;
}

TEST_F(CollectVerb, RefusesWhatCannotBeDone) {
  ASSERT_EQ(run(command("s.safetensors")).code, 0);
  const std::string stats = path("s.safetensors");
  write_text(path("junk.safetensors"), "junk");
  testing::expect_refused({
      {command("s.safetensors"), 2, "the output exists already"},
      {command("s.txt"), 2, "ends in .safetensors"},
      {command("t.safetensors", {"--gram", "nothing.*"}), 2, "matches no input"},
      {command("t.safetensors", {"--embeddings", path("none")}), 3, "none"},
      {{"collect", model_, "-o", path("t.safetensors"), "--prompts", "3"}, 2, "expected up to 2"},
      {{"collect", path("nowhere"), "-o", path("t.safetensors")}, 3, "no such model folder"},
      {{"stats", "draw", stats}, 2, "show or merge"},
      {{"stats", "show", stats, stats}, 2, "takes one file"},
      {{"stats", "merge", stats, "-o", path("m.safetensors")}, 2, "what should be merged?"},
      {{"stats", "show", path("junk.safetensors")}, 3, "junk.safetensors"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a8"}, 2, "W8A8 needs statistics"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a16", "--gptq"}, 2, "need statistics"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a8", "--stats", path("junk.safetensors")},
       3,
       "junk.safetensors"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a8", "--stats", stats, "--range", "max"},
       2,
       "one of mse, minmax, percentile"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a8", "--static-tolerance", "1.2"},
       2,
       "need statistics"},
      {{"quantize", model_, "-o", path("q"), "--algo", "w8a8", "--stats", stats,
        "--static-tolerance", "-1"},
       2,
       "a number from 0 to 1000, got -1"},
  });
}

TEST_F(CollectVerb, AnUnfinishedRunIsNeitherLostNorMixedUp) {
  ASSERT_EQ(run(command("s.safetensors")).code, 0);
  // What a run leaves behind that was cut after its first prompt.
  const std::string unfinished = path("t.safetensors.unfinished.safetensors");
  fs::copy_file(path("s.safetensors"), unfinished);
  EXPECT_TRUE(contains(run(command("t.safetensors")).err, "an unfinished collection is there"));
  const CliResult other = run(command("t.safetensors", {"--resume"}));
  EXPECT_EQ(other.code, 2);
  EXPECT_TRUE(contains(other.err, "begun with other options"));
  EXPECT_TRUE(fs::exists(unfinished));
  EXPECT_EQ(run(command("t.safetensors", {"--force"})).code, 0);
}

}  // namespace
}  // namespace mezzotint::cli
