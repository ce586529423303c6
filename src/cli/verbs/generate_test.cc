// generate and compare on a tiny random model.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/pipeline.h"
#include "models/image_io.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

class GenerateVerb : public testing::TinyPipelineTest {
 protected:
  std::string quantized(const std::string& algorithm) const {
    const CliResult result =
        run({"quantize", model_, "-o", path(algorithm), "--algo", algorithm, "-q"});
    EXPECT_EQ(result.code, 0) << result.err;
    return path(algorithm);
  }
};

TEST_F(GenerateVerb, WritesAnImageOfTheModelsSize) {
  const CliResult result = run({"generate", model_, "--prompt-id", "1", "-o", path("a.png")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "prompt a blue bag on red"));
  EXPECT_TRUE(contains(result.out, "wrote  " + path("a.png")));
  EXPECT_TRUE(contains(result.out, "2 steps in"));
  EXPECT_TRUE(contains(result.err, "generating: 0%  starting"));
  const Image image = read_png(path("a.png"));
  EXPECT_EQ(image.width, 16);
  EXPECT_EQ(image.channels, 3);
}

TEST_F(GenerateVerb, TheSameSeedGivesTheSameFile) {
  for (const char* name : {"a.png", "b.png"}) {
    ASSERT_EQ(run({"generate", model_, "--prompt-id", "0", "--seed", "5", "-o", path(name)}).code,
              0);
  }
  ASSERT_EQ(run({"generate", model_, "--prompt-id", "0", "--seed", "6", "-o", path("c.png")}).code,
            0);
  EXPECT_EQ(file_text(path("a.png")), file_text(path("b.png")));
  EXPECT_NE(file_text(path("a.png")), file_text(path("c.png")));
}

TEST_F(GenerateVerb, NoiseFromAFileReplacesTheSeed) {
  const Tensor noise = seeded_noise(5, 1, 64, 16);
  Writer writer(path("noise.safetensors"), {{"noise", DType::kF32, {64, 16}}});
  writer.put(std::string("noise"), noise.reshaped({64, 16}));
  writer.finish();
  ASSERT_EQ(run({"generate", model_, "--prompt-id", "0", "--seed", "5", "--save-latents",
                 path("a.safetensors")})
                .code,
            0);
  ASSERT_EQ(run({"generate", model_, "--prompt-id", "0", "--noise", path("noise.safetensors"),
                 "--save-latents", path("b.safetensors")})
                .code,
            0);
  EXPECT_EQ(file_text(path("a.safetensors")), file_text(path("b.safetensors")));
  EXPECT_EQ(WeightStore::open_file(path("a.safetensors")).info("latents").shape,
            (Shape{1, 64, 16}));
}

TEST_F(GenerateVerb, RunsAQuantizedFolder) {
  const std::string folder = quantized("w8a8_dynamic");
  const nlohmann::json document = run_json({"generate", model_, "--quant", folder, "--prompt-id",
                                            "0", "-o", path("q.png"), "--steps", "1"});
  EXPECT_EQ(document["model"], folder);
  EXPECT_EQ(document["steps"], 1);
  EXPECT_EQ(document["prompt"], "a red <bag> on blue");
}

TEST_F(GenerateVerb, SaysHowToRunAQuantizedFolder) {
  const std::string folder = quantized("w8a16");
  testing::expect_refused({{{"generate", folder, "--prompt-id", "0", "-o", path("x.png")},
                            2,
                            "this is a quantized folder, which holds no prompts and no sampler"}});
  EXPECT_TRUE(contains(run({"generate", folder, "--prompt-id", "0", "-o", path("x.png")}).err,
                       "fix: mezzotint generate MODEL --quant " + folder));
}

TEST_F(GenerateVerb, TheLargestSeedIsASeed) {
  EXPECT_EQ(run({"generate", model_, "--prompt-id", "0", "--steps", "1", "--seed",
                 "18446744073709551615", "-o", path("a.png")})
                .code,
            0);
}

TEST_F(GenerateVerb, ABareTransformerGivesLatents) {
  fs::remove(path("model/pixels.json"));
  const std::vector<std::string> arguments = {"generate",       path("model"),
                                              "--embeddings",   path("model/prompts.safetensors"),
                                              "--grid",         "4,4",
                                              "--steps",        "1",
                                              "--save-latents", path("l.safetensors")};
  const CliResult result = run(arguments);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(WeightStore::open_file(path("l.safetensors")).info("latents").shape,
            (Shape{1, 16, 16}));
}

TEST_F(GenerateVerb, RefusesWhatCannotBeDone) {
  const std::string out = path("x.png");
  write_text(path("there.png"), "x");
  testing::expect_refused({
      {{"generate", model_, "-o", out},
       2,
       "expected --prompt-id N or --embeddings FILE, got neither"},
      {{"generate", model_, "--prompt-id", "0"}, 2, "nowhere to write to"},
      {{"generate", model_, "--prompt-id", "0", "-o", path("x.jpg")}, 2, "ends in .png"},
      {{"generate", model_, "--prompt-id", "0", "-o", path("there.png")}, 2, "exists already"},
      {{"generate", model_, "--prompt-id", "2", "-o", out}, 2, "prompt"},
      {{"generate", model_, "--prompt-id", "-1", "-o", out}, 2, "--prompt-id"},
      {{"generate", model_, "--prompt-id", "0", "--steps", "0", "-o", out}, 2, "--steps"},
      {{"generate", model_, "--prompt-id", "0", "--seed", "-3", "-o", out},
       2,
       "--seed: expected a whole number, 0 or more, got -3"},
      {{"compare", model_, "--quant", "q", "--seed", "-3", "-o", path("r.html")}, 2, "got -3"},
      {{"generate", model_, "--prompt-id", "0", "-o", path("missing/dir/x.png")},
       2,
       "the folder of the output does not exist"},
      {{"generate", model_, "--prompt-id", "0", "--guidance", "-2", "-o", out}, 2, "--guidance"},
      {{"generate", model_, "--prompt-id", "0", "--grid", "3,3", "-o", out}, 2, "one size"},
      {{"generate", path("nowhere"), "--prompt-id", "0", "-o", out}, 3, "nowhere"},
      {{"generate", model_, "--quant", path("nowhere"), "--prompt-id", "0", "-o", out},
       3,
       "nowhere"},
      {{"generate", model_, "--noise", model_ + "/prompts.safetensors", "--prompt-id", "0", "-o",
        out},
       3,
       "which tensor is the noise?"},
      {{"compare", model_, "-o", path("r.html")}, 2, "--quant is required"},
      {{"compare", model_, "--quant", path("nowhere"), "-o", path("r.html")}, 3, "nowhere"},
      {{"compare", path("nowhere"), "--quant", "q", "-o", path("r.html")},
       3,
       "no such model folder"},
      {{"compare", model_, "--quant", "q", "--prompts", "9", "-o", path("r.html")}, 3, "q"},
  });
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(GenerateVerb, NoStrictListsWhatItForgave) {
  const fs::path folder = quantized("w8a16");
  const fs::path descriptor = folder / "quant_model_description_w8a16.json";
  std::string text = file_text(descriptor);
  text.insert(1, "\n    \"other.attn.quant_type\": \"FP8_DYNAMIC\",");
  write_text(descriptor, text);
  const std::vector<std::string> strict = {"generate",    model_, "--quant", folder.string(),
                                           "--prompt-id", "0",    "-o",      path("a.png")};
  const CliResult refused = run(strict);
  EXPECT_EQ(refused.code, 5) << refused.err;
  EXPECT_TRUE(contains(refused.err, "no attention of the model answers"));
  std::vector<std::string> lenient = strict;
  lenient.emplace_back("--no-strict");
  const CliResult result = run(lenient);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "warning: no attention of the model answers")) << result.err;
  EXPECT_TRUE(contains(result.err, "layer other.attn"));
  const nlohmann::json compared = run_json({"compare", model_, "--quant", folder.string(),
                                            "--prompts", "1", "--no-strict", "-o", path("r.html")});
  EXPECT_EQ(compared["forms"][0]["layers"]["unmatched"].size(), 1u);
}

// As upstream's exporter writes it.
TEST_F(GenerateVerb, AQuantizedFolderWithoutConfigHasTheModels) {
  const std::string folder = quantized("w8a8_dynamic");
  const auto generate = [&](const char* name) {
    return run({"generate", model_, "--quant", folder, "--prompt-id", "0", "-o", path(name)});
  };
  ASSERT_EQ(generate("a.png").code, 0);
  fs::remove(fs::path(folder) / "config.json");
  const CliResult result = generate("b.png");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(file_text(path("a.png")), file_text(path("b.png")));
}

TEST_F(GenerateVerb, CompareLoadsEveryFormBeforeTheFloatModelRuns) {
  const std::string folder = quantized("w8a8_dynamic");
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") fs::resize_file(entry.path(), 1000);
  }
  const CliResult result =
      run({"compare", model_, "--quant", folder, "--prompts", "1", "-o", path("r.html")});
  EXPECT_EQ(result.code, 3);
  EXPECT_FALSE(contains(result.err, "generating")) << result.err;
}

TEST_F(GenerateVerb, CompareWritesOneReport) {
  const std::string folder = quantized("w8a16");
  const CliResult result =
      run({"compare", model_, "--quant", folder, "--prompts", "2", "-o", path("r.html")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "algorithm"));
  EXPECT_TRUE(contains(result.out, "W8A16"));
  EXPECT_TRUE(contains(result.out, "wrote  " + path("r.html")));
  const std::string html = file_text(path("r.html"));
  EXPECT_TRUE(contains(html, "a red &lt;bag&gt; on blue"));
  EXPECT_TRUE(contains(run({"compare", model_, "--quant", folder, "-o", path("r.html")}).err,
                       "exists already"));
}

TEST_F(GenerateVerb, CompareJsonHasTheTable) {
  const std::string folder = quantized("w8a16");
  const nlohmann::json document = run_json({"compare", model_, "--quant", folder, "--quant", folder,
                                            "--prompts", "1", "-o", path("r.html")});
  ASSERT_EQ(document["forms"].size(), 2u);
  EXPECT_GT(document["forms"][0]["psnr_db"], 20.0);
  EXPECT_EQ(document["forms"][0]["psnr_db"], document["forms"][1]["psnr_db"]);
  EXPECT_LT(document["forms"][0]["file_bytes"], document["float"]["file_bytes"]);
}

TEST_F(GenerateVerb, CompareGatesExitWith6) {
  const std::string folder = quantized("w8a16");
  const CliResult result = run({"compare", model_, "--quant", folder, "--prompts", "1", "-o",
                                path("r.html"), "--min-psnr", "200"});
  EXPECT_EQ(result.code, 6);
  EXPECT_TRUE(contains(result.err, "PSNR of W8A16 is below the gate: expected at least 200"));
  EXPECT_TRUE(fs::exists(path("r.html")));
}

TEST_F(GenerateVerb, TheFloatFormIsComparedWithItselfAsEqual) {
  // A quantized folder that keeps every block float: only one layer differs, so images are close.
  const CliResult made = run({"quantize", model_, "-o", path("one"), "--rule",
                              "single_transformer_blocks.0.proj_mlp=w8a16", "-q"});
  ASSERT_EQ(made.code, 0) << made.err;
  const nlohmann::json document =
      run_json({"compare", model_, "--quant", path("one"), "--prompts", "2", "-o", path("r.html")});
  EXPECT_GT(document["forms"][0]["psnr_db"], 40.0);
}

}  // namespace
}  // namespace mezzotint::cli
