// quantize and dequantize: transcripts and refusals.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/interrupt.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

class QuantizeVerb : public testing::SmallModelTest {
 protected:
  CliResult quantize(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"quantize", model_, "-o", path("out")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
};

TEST_F(QuantizeVerb, SaysWhatItDidAndWhatIsNext) {
  const CliResult result = quantize({"--algo", "w8a8_dynamic"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "4 layers to quantize, 1 kept float"));
  EXPECT_TRUE(contains(result.out, "kept   1 layer float: K = 8 is below 32 (patch)"));
  EXPECT_TRUE(
      contains(result.out, "done   4 quantized, 1 kept float, 0 unmatched   worst: blocks."));
  EXPECT_TRUE(contains(result.out,
                       "quant_model_description_w8a8_dynamic.json, "
                       "quant_model_weight_w8a8_dynamic.safetensors)"));
  EXPECT_TRUE(contains(result.out, "next   mezzotint inspect " + path("out") + " --check"));
  EXPECT_TRUE(contains(result.err, "quantizing: done in"));
}

TEST_F(QuantizeVerb, RulesAndExclusionsAreShownAsReasons) {
  const CliResult result = quantize({"--algo", "W8A8_DYNAMIC", "--rule", "*.ff=w8a16", "--rule",
                                     "*.to_q=float", "--exclude", "blocks.1.ff", "--layers"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "kept   2 layers float: --rule *.to_q=float"));
  EXPECT_TRUE(contains(result.out, "kept   1 layer float: --exclude blocks.1.ff (blocks.1.ff)"));
  EXPECT_TRUE(contains(result.out, "blocks.0.ff    [128,64]  W8A16"));
}

TEST_F(QuantizeVerb, CompatWritesByUpstreamsRules) {
  const CliResult result = quantize({"--algo", "w4a16", "--compat", "upstream"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string text = file_text(path("out/quant_model_description_w4a16.json"));
  EXPECT_TRUE(contains(text, "\"compat\": \"upstream\"")) << text;
  const CliResult wrong = quantize({"--algo", "w4a16", "--compat", "theirs"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_TRUE(contains(wrong.err, "expected one of none, upstream, got theirs")) << wrong.err;
}

TEST_F(QuantizeVerb, DryRunWritesNothing) {
  const CliResult result = quantize({"--algo", "w8a16", "--dry-run"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "plan   "));
  EXPECT_TRUE(contains(result.out, "at most, for blocks."));
  EXPECT_TRUE(contains(result.out, "time   about "));
  EXPECT_FALSE(contains(result.out, "wrote"));
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(QuantizeVerb, MoreMemoryThanAllowedIsRefused) {
  const CliResult result = quantize({"--algo", "w8a16", "--max-memory", "1MB"});
  EXPECT_EQ(result.code, 7);
  EXPECT_TRUE(contains(result.err, "more memory than is allowed: expected at most 1 MB"));
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_EQ(quantize({"--algo", "w8a16", "--max-memory", "1GB"}).code, 0);
}

TEST_F(QuantizeVerb, JsonIsOneDocument) {
  const nlohmann::json document =
      run_json({"quantize", model_, "-o", path("out"), "--algo", "w8a16"});
  EXPECT_EQ(document["report"]["layers"].size(), 5u);
  EXPECT_EQ(document["files"].size(), 2u);
  EXPECT_EQ(document["report"]["quantized"], 4);
  EXPECT_GT(document["peak_memory_bytes"], 0);
}

TEST_F(QuantizeVerb, ReportFileHoldsEveryLayer) {
  ASSERT_EQ(quantize({"--algo", "w8a16", "--report", path("r.json")}).code, 0);
  const nlohmann::json report = nlohmann::json::parse(file_text(path("r.json")));
  EXPECT_EQ(report["layers"].size(), 5u);
}

TEST_F(QuantizeVerb, ShardsCanBeReadBack) {
  ASSERT_EQ(quantize({"--algo", "w8a16", "--max-shard-size", "20kB"}).code, 0);
  EXPECT_TRUE(contains(run({"inspect", path("out"), "--check"}).out, "checked every tensor"));
}

TEST_F(QuantizeVerb, AttentionsAreNamedByAPattern) {
  const CliResult result =
      quantize({"--algo", "w8a16", "--fa", "fp8_dynamic:re:blocks[.][01]:32", "--layers"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "6 layers to quantize, 1 kept float")) << result.out;
  EXPECT_TRUE(contains(result.out, "blocks.1  ")) << result.out;
  const CliResult seen = run({"inspect", path("out"), "--check", "--layers"});
  EXPECT_EQ(seen.code, 0) << seen.out;
  EXPECT_TRUE(contains(seen.out, "FP8_DYNAMIC       2        0   8.2 kB                -"))
      << seen.out;
  EXPECT_TRUE(contains(seen.out, "checked every tensor: no problem"));
}

TEST_F(QuantizeVerb, AttentionsAloneAreEnough) {
  ASSERT_EQ(quantize({"--fa", "fp8_dynamic:blocks.0:64"}).code, 0);
  const std::string text = file_text(path("out/quant_model_description_fp8_dynamic.json"));
  EXPECT_TRUE(contains(text, "\"blocks.0.quant_type\": \"FP8_DYNAMIC\"")) << text;
}

TEST_F(QuantizeVerb, QuietPrintsTheResultOnly) {
  const CliResult result = quantize({"--algo", "w8a16", "-q"});
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(result.out.starts_with("done   4 quantized"));
  EXPECT_FALSE(contains(result.out, "next"));
}

TEST_F(QuantizeVerb, NeverOverwritesUnlessForced) {
  ASSERT_EQ(quantize({"--algo", "w8a16"}).code, 0);
  const std::string before = file_text(path("out/quant_model_weight_w8a16.safetensors"));
  EXPECT_TRUE(contains(quantize({"--algo", "w8a16"}).err,
                       "the output exists already\n  file: " + path("out") +
                           "\n  fix: choose another name, or --force to replace it"));
  ASSERT_EQ(quantize({"--algo", "w8a16", "--force"}).code, 0);
  EXPECT_EQ(file_text(path("out/quant_model_weight_w8a16.safetensors")), before);
}

TEST_F(QuantizeVerb, AnInterruptedRunIsResumed) {
  request_interrupt();
  const CliResult cut = quantize({"--algo", "w8a16"});
  clear_interrupt();
  EXPECT_EQ(cut.code, 130);
  EXPECT_TRUE(contains(cut.err, "the same command with --resume goes on from here"));
  EXPECT_FALSE(fs::exists(path("out/quant_model_weight_w8a16.safetensors")));
  EXPECT_TRUE(contains(quantize({"--algo", "w8a16"}).err, "the output holds an unfinished run"));
  const CliResult resumed = quantize({"--algo", "w8a16", "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;

  std::vector<std::string> again = {"quantize", model_, "-o", path("whole"), "--algo", "w8a16"};
  ASSERT_EQ(run(again).code, 0);
  EXPECT_EQ(file_text(path("out/quant_model_weight_w8a16.safetensors")),
            file_text(path("whole/quant_model_weight_w8a16.safetensors")));
}

TEST_F(QuantizeVerb, RefusesWhatCannotBeDone) {
  const std::string out = path("out");
  const std::string text = path("text.txt");
  write_text(text, "hello");
  write_text(path("model.gguf"), "GGUF....");
  write_text(path("there.json"), "{}");
  testing::expect_refused({
      {{"quantize", model_, "-o", out, "--algo", "w8a8_dynamik"}, 4, "unknown algorithm"},
      {{"quantize", model_, "-o", out, "--algo", "nf4"}, 4, "NF4 is not served by this version"},
      {{"quantize", model_, "-o", out, "--algo", "w4a16_awq"},
       2,
       "W4A16_AWQ needs statistics: mezzotint collect"},
      {{"quantize", model_, "-o", out}, 2, "which algorithm?"},
      {{"quantize", model_, "-o", out, "--fa", "fp8_dynamic"}, 2, "which modules are attentions?"},
      {{"quantize", model_, "-o", out, "--fa", "fp8_dynamic:"}, 2, "ALGO[:PATTERN[:HEAD_DIM]]"},
      {{"quantize", model_, "-o", out, "--fa", ":blocks.0:64"}, 2, "ALGO[:PATTERN[:HEAD_DIM]]"},
      {{"quantize", model_, "-o", out, "--fa", "fp8_dynamic:blocks.0:0"}, 2, "ALGO[:PATTERN["},
      {{"quantize", model_, "-o", out, "--fa", "fp8_dynamic:block.0:64"}, 2, "mean blocks.0"},
      {{"quantize", model_, "-o", out, "--fa", "fp8_dynamic:blocks.0:129"}, 4, "expected 1..128"},
      {{"quantize", model_, "-o", out, "--fa", "mxfp8_dynamic"}, 4, "MXFP8_DYNAMIC is not served"},
      {{"quantize", model_, "-o", out, "--fa", "w8a16"}, 4, "W8A16 is an algorithm of linears"},
      {{"quantize", model_, "-o", out, "--algo", "fp8_dynamic"}, 4, "an algorithm of attention"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--rule", "*.ff"},
       2,
       "--rule: expected PATTERN=ALGO, got *.ff"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--rule", "*.ff=w9a9"}, 4, "w9a9"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--exclude", "blocks.0.toq"},
       2,
       "did you mean blocks.0.to_q"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--exclude", "re:("}, 2, "re:("},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--preset", "flx"}, 2, "flux"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--max-shard-size", "big"},
       2,
       "--max-shard-size: expected a size"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--max-memory", "x"}, 2, "--max-memory"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--rank", "-1"}, 2, "--rank"},
      {{"quantize", model_, "-o", out, "--algo", "w8a8_mxfp8", "--group-size", "64"},
       2,
       "algorithm with groups"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--resume", "--force"}, 2, "contradict"},
      {{"quantize", model_, "-o", folder_.path().string(), "--algo", "w8a16", "--force"},
       2,
       "the output is the source"},
      {{"quantize", model_, "-o", path("o.safetensors"), "--algo", "w8a16"}, 2, "is a folder"},
      {{"quantize", model_, "-o", text, "--algo", "w8a16"}, 2, "the output is a file"},
      {{"quantize", model_, "-o", text + "/out", "--algo", "w8a16"}, 2, "which is a file"},
      {{"quantize", path("nowhere"), "-o", out, "--algo", "w8a16"}, 3, "nowhere"},
      {{"quantize", text, "-o", path("s/out"), "--algo", "w8a16"}, 3, "text.txt"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--report", text}, 2, "got " + text},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--report", path("there.json")},
       2,
       "exists already"},
      {{"quantize", model_, "-o", out, "--algo", "w8a16", "--fail-below-sqnr", "x"}, 2, "sqnr"},
  });
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(QuantizeVerb, LayersWithTooLongIntegerSumsAreRefusedByName) {
  const std::string model = path("long.safetensors");
  const auto ones = [](int64_t k) {
    return float_tensor(DType::kBF16, {1, k}, std::vector<float>(static_cast<size_t>(k), 1.0f));
  };
  write_weights(model, {{"short.weight", "", ones(65536)}, {"long.weight", "", ones(65537)}});
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"quantize",  model,    "-o",
                                          path("out"), "--algo", "w8a8_dynamic"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const CliResult refused = with({});
  EXPECT_EQ(refused.code, 4);
  for (const char* part : {"long", "W8A8_DYNAMIC", "at most 65536", "65537", "W8A16"}) {
    EXPECT_TRUE(contains(refused.err, part)) << part << " in " << refused.err;
  }
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_EQ(with({"--rule", "long=w8a16"}).code, 0);
}

TEST_F(QuantizeVerb, TheReportMayLieInTheOutput) {
  const CliResult result = quantize({"--algo", "w8a16", "--report", path("out/report.json")});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(file_text(path("out/report.json")), "blocks.0.ff"));
}

TEST_F(QuantizeVerb, TheQualityGateExitsWith6) {
  const CliResult result = quantize({"--algo", "w8a16", "--fail-below-sqnr", "90"});
  EXPECT_EQ(result.code, 6);
  EXPECT_TRUE(contains(result.err, "expected at least 90 dB"));
  EXPECT_TRUE(contains(result.err, "  layer: blocks."));
}

TEST_F(QuantizeVerb, DequantizeGivesNamesAndTypesBack) {
  ASSERT_EQ(quantize({"--algo", "w8a8_dynamic"}).code, 0);
  const CliResult result = run({"dequantize", path("out"), "-o", path("back.safetensors")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "wrote  " + path("back.safetensors")));
  const WeightStore source = WeightStore::open(model_);
  const WeightStore back = WeightStore::open(path("back.safetensors"));
  ASSERT_EQ(back.tensors().size(), source.tensors().size());
  for (const TensorInfo& tensor : source.tensors()) {
    EXPECT_EQ(back.info(tensor.name).dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(back.info(tensor.name).shape, tensor.shape) << tensor.name;
  }
}

TEST_F(QuantizeVerb, DequantizeRefusesWhatCannotBeDone) {
  ASSERT_EQ(quantize({"--algo", "w8a16"}).code, 0);
  const std::string out = path("out");
  testing::expect_refused({
      {{"dequantize", out, "-o", path("folder")}, 2, "a name that ends in .safetensors"},
      {{"dequantize", out, "-o", model_}, 2, "the output exists already"},
      {{"dequantize", out, "-o", path("missing/dir/b.safetensors")},
       2,
       "the folder of the output does not exist"},
      {{"dequantize", path("nowhere"), "-o", path("b.safetensors")}, 3, "nowhere"},
      {{"dequantize", out, "--force", "-o", out + "/quant_model_weight_w8a16.safetensors"},
       2,
       "the output is the source"},
      {{"dequantize", out}, 2, "--output"},
  });
}

}  // namespace
}  // namespace mezzotint::cli
