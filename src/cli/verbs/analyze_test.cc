// analyze, and quantize with a recipe or an aim: transcripts and refusals.
#include <gtest/gtest.h>

#include <algorithm>
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

class AnalyzeVerb : public testing::TinyPipelineTest {
 protected:
  void SetUp() override {
    const CliResult result = run({"collect", model_, "-o", stats_, "--steps", "20"});
    ASSERT_EQ(result.code, 0) << result.err;
  }

  std::vector<std::string> command(const std::string& verb, std::vector<std::string> more) const {
    std::vector<std::string> arguments = {verb, model_, "--stats", stats_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  static int64_t weight_bytes(const fs::path& folder) {
    int64_t bytes = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".safetensors") {
        bytes += static_cast<int64_t>(entry.file_size());
      }
    }
    return bytes;
  }

  std::string stats_ = path("stats.safetensors");
};

TEST_F(AnalyzeVerb, RanksLayersWorstFirst) {
  const CliResult result = run(command("analyze", {"--choose-from", "w4a16,w8a8_dynamic"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "W4A16 dB  W8A8_DYNAMIC dB")) << result.out;
  const nlohmann::json document = run_json(command("analyze", {"--choose-from", "w4a16"}));
  EXPECT_GE(document["layers"].size(), 10u);
  EXPECT_TRUE(contains(run(command("analyze", {"--md", "--choose-from", "w8a16"})).out, "| layer"));
}

TEST_F(AnalyzeVerb, ItsRecipeMakesTheSizeThatWasAskedFor) {
  const nlohmann::json plain = run_json(command("analyze", {"--choose-from", "w8a16"}));
  const auto target = plain["float_bytes"].get<int64_t>() / 2;
  const CliResult result =
      run(command("analyze", {"--target-size", std::to_string(target), "--choose-from",
                              "w8a8_dynamic,w4a4_mxfp4", "-o", path("r.yaml")}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "chose  "));
  EXPECT_TRUE(contains(result.out, "next   mezzotint quantize"));
  const CliResult made = run({"quantize", model_, "-o", path("out"), "--recipe", path("r.yaml")});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_LE(weight_bytes(path("out")), target);
  EXPECT_GE(weight_bytes(path("out")), target * 9 / 10);
  // The same in one step, bit for bit.
  const CliResult direct =
      run(command("quantize", {"-o", path("direct"), "--target-size", std::to_string(target),
                               "--choose-from", "w8a8_dynamic,w4a4_mxfp4"}));
  ASSERT_EQ(direct.code, 0) << direct.err;
  for (const fs::directory_entry& entry : fs::directory_iterator(path("out"))) {
    EXPECT_EQ(file_text(entry.path()),
              file_text(fs::path(path("direct")) / entry.path().filename()))
        << entry.path();
  }
  EXPECT_EQ(run({"inspect", path("out"), "--check"}).code, 0);
}

TEST_F(AnalyzeVerb, AttentionsGoIntoTheRecipeAndCountForTheSize) {
  const nlohmann::json plain = run_json(command("analyze", {"--choose-from", "w8a16"}));
  EXPECT_EQ(plain["attentions"].size(), 0u);
  const auto target = plain["float_bytes"].get<int64_t>() * 6 / 10;
  const std::vector<std::string> aim = {"--target-size", std::to_string(target),
                                        "--choose-from", "w8a8_dynamic,w4a4_mxfp4",
                                        "--fa",          "fp8_dynamic"};
  std::vector<std::string> recipe = aim;
  recipe.insert(recipe.end(), {"-o", path("r.yaml")});
  const CliResult result = run(command("analyze", recipe));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(
      contains(result.out, "attention transformer_blocks.0.attn   FP8_DYNAMIC, head_dim 32"))
      << result.out;
  EXPECT_TRUE(contains(result.out, " of rotations, ")) << result.out;  // dB
  EXPECT_TRUE(contains(file_text(path("r.yaml")), "attention:\n  - {algo: fp8_dynamic}\n"));
  const CliResult made = run({"quantize", model_, "-o", path("out"), "--recipe", path("r.yaml")});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_LE(weight_bytes(path("out")), target);
  std::vector<std::string> direct = aim;
  direct.insert(direct.end(), {"-o", path("direct")});
  ASSERT_EQ(run(command("quantize", direct)).code, 0);
  int files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(path("out"))) {
    const std::string text = file_text(entry.path());
    EXPECT_EQ(text, file_text(fs::path(path("direct")) / entry.path().filename()));
    files += contains(text, "attn.quant_type\": \"FP8_DYNAMIC\"") ? 1 : 0;
  }
  EXPECT_EQ(files, 1) << "the descriptor names them";
}

// Of attentions, what collect measured; without that, why there is nothing.
TEST_F(AnalyzeVerb, ErrorsOfAttentionsAreThoseOfTheCollectedRun) {
  const nlohmann::json shown = run_json({"stats", "show", stats_});
  const nlohmann::json analyzed =
      run_json(command("analyze", {"--choose-from", "w8a16", "--fa", "fp8_dynamic"}));
  ASSERT_EQ(analyzed["attentions"].size(), 2u);
  ASSERT_EQ(shown["attentions"].size(), 2u);
  for (const nlohmann::json& attention : analyzed["attentions"]) {
    const auto same = std::ranges::find(shown["attentions"], attention["name"],
                                        [](const nlohmann::json& a) { return a["name"]; });
    ASSERT_NE(same, shown["attentions"].end());
    EXPECT_EQ(attention["error"], (*same)["error"]);
    EXPECT_GT(attention["sqnr_db"], 15);  // e4m3 keeps 4 bits
    EXPECT_LT(attention["sqnr_db"], 60);
  }
  const CliResult made = run(command("quantize", {"-o", path("out"), "--algo", "w8a16", "--fa",
                                                  "fp8_dynamic", "--report", path("r.json")}));
  ASSERT_EQ(made.code, 0) << made.err;
  const nlohmann::json report = nlohmann::json::parse(file_text(path("r.json")));
  int reported = 0;
  for (const nlohmann::json& layer : report["layers"]) {
    if (layer["algorithm"] != "FP8_DYNAMIC") continue;
    ++reported;
    EXPECT_GT(layer["output_sqnr_db"], 15);
    EXPECT_EQ(layer["step_errors"].size(), 20u);
  }
  EXPECT_EQ(reported, 2);
  ASSERT_EQ(run({"collect", model_, "-o", path("without.safetensors"), "--steps", "20",
                 "--no-attentions"})
                .code,
            0);
  stats_ = path("without.safetensors");
  const CliResult unknown =
      run(command("analyze", {"--choose-from", "w8a16", "--fa", "fp8_dynamic"}));
  EXPECT_TRUE(contains(unknown.out, "the statistics hold no error of this attention"));
}

TEST_F(AnalyzeVerb, AQualityKeepsLayersFloatAndTheReportSaysWhy) {
  const CliResult result =
      run(command("quantize", {"-o", path("out"), "--min-sqnr", "25", "--choose-from", "w4a4_mxfp4",
                               "--choose-from", "w8a8_dynamic", "--layers"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const CliResult strict =
      run(command("quantize", {"-o", path("strict"), "--min-sqnr", "30", "--choose-from",
                               "w4a4_mxfp4,w4a16,w8a8_dynamic", "--report", path("r.json")}));
  ASSERT_EQ(strict.code, 0) << strict.err;
  const nlohmann::json report = nlohmann::json::parse(file_text(path("r.json")));
  for (const nlohmann::json& layer : report["layers"]) {
    if (layer["algorithm"] == "FLOAT") {
      EXPECT_TRUE(layer.contains("reason")) << layer;
    } else {
      EXPECT_GE(layer["output_sqnr_db"], 30) << layer;
    }
  }
}

TEST_F(AnalyzeVerb, ReportsAreHtmlJsonAndMarkdown) {
  const nlohmann::json plain = run_json(command("analyze", {"--choose-from", "w8a16"}));
  const auto target = plain["float_bytes"].get<int64_t>() * 2 / 5;
  const CliResult result = run(
      command("quantize", {"-o", path("out"), "--target-size", std::to_string(target), "--report",
                           path("r.html"), "--report", path("r.json"), "--report", path("r.md")}));
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string html = file_text(path("r.html"));
  for (const char* part : {"Error against bytes", "chosen", "Error per denoising step",
                           "output SQNR dB", "class=\"heat\"", "--target-size"}) {
    EXPECT_TRUE(contains(html, part)) << part;
  }
  EXPECT_FALSE(contains(html, "http://"));
  const nlohmann::json report = nlohmann::json::parse(file_text(path("r.json")));
  EXPECT_GE(report["sizes"].size(), 4u);
  EXPECT_GT(report["chosen"]["error"], 0);
  for (const nlohmann::json& layer : report["layers"]) {
    if (layer["algorithm"] == "FLOAT") continue;
    EXPECT_GT(layer["output_cosine"], 0.5);
    EXPECT_EQ(layer["step_errors"].size(), 20u);
    EXPECT_GE(layer["zero_share"], 0);
  }
  const std::string markdown = file_text(path("r.md"));
  EXPECT_TRUE(contains(markdown, "| layer"));
  EXPECT_TRUE(contains(markdown, "| output dB"));
  testing::expect_refused(
      {{command("quantize", {"-o", path("x"), "--algo", "w8a16", "--report", path("r.txt")}), 2,
        ".html, .json or .md"}});
}

TEST_F(AnalyzeVerb, AComparisonMeasuresTheLayersItself) {
  ASSERT_EQ(run({"quantize", model_, "-o", path("q"), "--algo", "w8a8_dynamic"}).code, 0);
  const CliResult result = run(
      command("compare", {"--quant", path("q"), "--prompts", "1", "-o", path("compared.html")}));
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string html = file_text(path("compared.html"));
  EXPECT_TRUE(contains(html, "weight SQNR dB"));
  EXPECT_TRUE(contains(html, "output cosine"));
}

TEST_F(AnalyzeVerb, TypedOptionsGoBeforeTheRecipe) {
  write_text(path("r.yaml"),
             "mezzotint: 1\nmodel: {preset: none}\ndefaults: {algo: w8a16}\n"
             "rules: [{match: \"*attn*\", algo: float, why: \"said so\"}]\n"
             "gates: {min_sqnr_db: 60}\n");
  const CliResult gated = run({"quantize", model_, "-o", path("a"), "--recipe", path("r.yaml")});
  EXPECT_EQ(gated.code, 6);
  EXPECT_TRUE(contains(gated.out, "float: said so"));
  EXPECT_TRUE(contains(gated.err, "at least 60 dB"));
  const CliResult typed =
      run({"quantize", model_, "-o", path("b"), "--recipe", path("r.yaml"), "--algo",
           "w8a8_dynamic", "--rule", "*attn.to_q=w4a16", "--fail-below-sqnr", "10"});
  ASSERT_EQ(typed.code, 0) << typed.err;
  const std::string text = file_text(path("b/quant_model_description_w8a8_dynamic.json"));
  EXPECT_TRUE(contains(text, "attn.to_q.weight\": \"W4A16\""));
  EXPECT_TRUE(contains(text, "attn.to_k.weight\": \"FLOAT\""));
}

TEST_F(AnalyzeVerb, RefusesWhatMakesNoSense) {
  write_text(path("bad.yaml"), "mezzotint: 1\nruls: []\n");
  const std::string out = path("out");
  testing::expect_refused({
      {{"analyze", model_}, 2, "--stats"},
      {command("analyze", {"--target-size", "8GB"}), 2, "an aim alone"},
      {command("analyze", {"-o", path("r.yaml")}), 2, "-o alone"},
      {command("analyze", {"--target-size", "much", "-o", path("r.yaml")}), 2, "got much"},
      {command("analyze", {"--target-size", "1GB", "--min-sqnr", "3", "-o", path("r.yaml")}), 2,
       "two different aims"},
      {command("analyze", {"--choose-from", "w9a9"}), 4, "w9a9"},
      {command("quantize", {"-o", out}), 2, "which algorithm?"},
      {command("quantize", {"-o", out, "--choose-from", "w8a16"}), 2, "needs an aim"},
      {command("quantize", {"-o", out, "--algo", "w8a16", "--min-sqnr", "3"}), 2,
       "an algorithm for all layers, and a choice per layer"},
      {command("quantize", {"-o", out, "--rule", "*=w8a16", "--min-sqnr", "3"}), 2,
       "a rule chooses what the analysis is to choose"},
      {{"quantize", model_, "-o", out, "--min-sqnr", "3"}, 2, "need statistics"},
      {{"quantize", model_, "-o", out, "--recipe", path("bad.yaml")}, 3, "did you mean rules"},
      {{"quantize", model_, "-o", out, "--recipe", path("none.yaml")}, 3, "cannot be read"},
  });
  const CliResult small = run(
      command("analyze", {"--choose-from", "w8a16", "--target-size", "1kB", "-o", path("r.yaml")}));
  EXPECT_EQ(small.code, 2);
  EXPECT_TRUE(contains(small.err, "does not become that small"));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(path("r.yaml")));
}

}  // namespace
}  // namespace mezzotint::cli
