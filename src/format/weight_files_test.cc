#include "format/weight_files.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

class FindWeightFile : public testing::Test {
 protected:
  std::string find(std::string_view component = "transformer") const {
    return find_weight_file(folder_.path(), component).lexically_relative(folder_.path()).string();
  }
  TempFolder folder_;
};

TEST_F(FindWeightFile, PrefersTheUsualNames) {
  folder_.write("vae.safetensors", "x");
  folder_.write("model.safetensors", "x");
  EXPECT_EQ(find(), "model.safetensors");
  folder_.write("diffusion_pytorch_model.safetensors.index.json", "x");
  EXPECT_EQ(find(), "diffusion_pytorch_model.safetensors.index.json");
}

TEST_F(FindWeightFile, TakesQuantizedNamesWholeOrSharded) {
  folder_.write("quant_model_weight_w8a8_dynamic.safetensors", "x");
  EXPECT_EQ(find(), "quant_model_weight_w8a8_dynamic.safetensors");
}

TEST_F(FindWeightFile, AnIndexStandsForItsShards) {
  folder_.write("quant_model_weight-00001-of-00002.safetensors", "x");
  folder_.write("quant_model_weight-00002-of-00002.safetensors", "x");
  folder_.write("quant_model_weight.safetensors.index.json", "x");
  EXPECT_EQ(find(), "quant_model_weight.safetensors.index.json");
}

TEST_F(FindWeightFile, TakesTheComponentBeforeOtherFilesOfAPipeline) {
  folder_.write("flux1-dev.safetensors", "x");
  folder_.write("ae.safetensors", "x");
  folder_.write("transformer/diffusion_pytorch_model.safetensors.index.json", "x");
  folder_.write("vae/diffusion_pytorch_model.safetensors", "x");
  EXPECT_EQ(find(), "transformer/diffusion_pytorch_model.safetensors.index.json");
  EXPECT_EQ(find("vae"), "vae/diffusion_pytorch_model.safetensors");
}

TEST_F(FindWeightFile, TakesAnyOnlyFile) {
  folder_.write("my_finetune.fp16.safetensors", "x");
  folder_.write("config.json", "{}");
  EXPECT_EQ(find(), "my_finetune.fp16.safetensors");
}

TEST_F(FindWeightFile, RefusesToGuess) {
  folder_.write("a.safetensors", "x");
  folder_.write("b.safetensors", "x");
  expect_error(ErrorCode::kUsage, {"several weight files", "a.safetensors, b.safetensors"},
               [&] { find(); });
}

TEST_F(FindWeightFile, RefusesAFileBesideItsIndex) {
  folder_.write("model.safetensors", "x");
  folder_.write("model.safetensors.index.json", "x");
  expect_error(ErrorCode::kUsage, {"several weight files", "model.safetensors.index.json"},
               [&] { find(); });
}

TEST_F(FindWeightFile, SaysWhatItLookedForAndWhatLiesThere) {
  folder_.write("README.md", "x");
  folder_.write("unet/diffusion_pytorch_model.safetensors", "x");
  expect_error(ErrorCode::kInput,
               {"holds no weights", "diffusion_pytorch_model.safetensors", "got README.md",
                "name one of the folders unet"},
               [&] { find(); });
  expect_error(ErrorCode::kInput, {"no such file or folder"},
               [&] { find_weight_file(folder_.path() / "none", ""); });
}

TEST_F(FindWeightFile, RefusesAComponentThatLeavesTheFolder) {
  expect_error(ErrorCode::kUsage, {"not a folder name"}, [&] { find("../x"); });
  expect_error(ErrorCode::kUsage, {"not a folder name"}, [&] { find(".."); });
}

TEST_F(FindWeightFile, TakesAFileButNotADescriptor) {
  const auto file = folder_.write("x.safetensors", "x");
  EXPECT_EQ(find_weight_file(file, ""), file);
  const auto json = folder_.write("quant_model_description.json", "{}");
  expect_error(ErrorCode::kInput, {"not a weight file", "quant_model_description.json"},
               [&] { find_weight_file(json, ""); });
}

TEST(ShardName, IsRecognisedByItsNumbers) {
  EXPECT_TRUE(is_shard_name("model-00001-of-00010.safetensors"));
  EXPECT_FALSE(is_shard_name("model.safetensors"));
  EXPECT_FALSE(is_shard_name("model-0001-of-0010.safetensors"));
  EXPECT_FALSE(is_shard_name("model-0000d-of-00010.safetensors"));
  EXPECT_FALSE(is_shard_name("model-00001-of-00010.safetensors.index.json"));
}

}  // namespace
}  // namespace mezzotint
