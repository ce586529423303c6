#include "quant/layer_selection.h"

#include <gtest/gtest.h>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

// Names of FLUX, one block of each kind, tiny.
class Selection : public testing::Test {
 protected:
  Selection() {
    LayerTensors tensors;
    std::mt19937_64 random(1);
    const auto add = [&](const std::string& name, const Shape& shape) {
      tensors.push_back({name, "", normal_tensor(DType::kBF16, shape, random)});
    };
    for (const char* layer :
         {"x_embedder", "context_embedder", "norm_out.linear", "proj_out",
          "time_text_embed.timestep_embedder.linear_1", "transformer_blocks.0.attn.to_q",
          "transformer_blocks.0.attn.to_k", "transformer_blocks.0.norm1_context.linear",
          "single_transformer_blocks.0.proj_mlp"}) {
      add(std::string(layer) + ".weight", {4, 32});
      add(std::string(layer) + ".bias", {4});
    }
    add("narrow.weight", {4, 31});
    add("transformer_blocks.0.attn.norm_q.weight", {32});
    add("conv.weight", {4, 4, 4});
    add("table", {4, 64});
    tensors.push_back(
        {"codes.weight", "", Tensor::copy_of<int8_t>(std::vector<int8_t>(64), {2, 32})});
    write_weights(folder_ / "model.safetensors", tensors);
    store_ = WeightStore::open_file(folder_ / "model.safetensors");
  }

  std::map<std::string, std::string> select(const ExportOptions& options) {
    std::map<std::string, std::string> chosen;
    last_ = select_layers(*store_, options, choose_preset(options.preset, *store_));
    for (const SelectedLayer& layer : last_.layers) {
      chosen[layer.name] =
          layer.algorithm == nullptr ? layer.reason : std::string(layer.algorithm->name);
    }
    return chosen;
  }

  TestFolder folder_;
  std::optional<WeightStore> store_;
  LayerSelection last_;
};

TEST_F(Selection, TakesTwoDimensionalFloatWeightsOfThirtyTwoColumns) {
  const auto chosen = select({.algorithm = "w8a16", .preset = "none"});
  EXPECT_EQ(chosen.size(), 10u);
  EXPECT_EQ(chosen.at("transformer_blocks.0.attn.to_q"), "W8A16");
  EXPECT_EQ(chosen.at("x_embedder"), "W8A16");
  EXPECT_EQ(chosen.at("narrow"), "K = 31 is below 32");
  EXPECT_FALSE(chosen.contains("table"));
  EXPECT_FALSE(chosen.contains("codes"));
}

TEST_F(Selection, ThePresetKeepsItsLayersAndSaysWhy) {
  const auto chosen = select({.algorithm = "W8A8_DYNAMIC", .preset = "auto"});
  for (const char* kept : {"x_embedder", "context_embedder", "norm_out.linear", "proj_out",
                           "time_text_embed.timestep_embedder.linear_1"}) {
    EXPECT_TRUE(chosen.at(kept).starts_with("preset flux: ")) << kept << ": " << chosen.at(kept);
  }
  EXPECT_EQ(chosen.at("transformer_blocks.0.norm1_context.linear"), "W8A8_DYNAMIC");
}

TEST_F(Selection, ExcludeBeatsRulesBeatPresetBeatsAlgo) {
  const auto chosen =
      select({.algorithm = "w8a8_dynamic",
              .rules = {{.pattern = "*.to_q", .algorithm = "float", .reason = "why"},
                        {.pattern = "*.attn.*", .algorithm = "w8a16"},
                        {.pattern = "re:proj_out|narrow", .algorithm = "W8A16"}},
              .exclude = {"*.to_k"},
              .preset = "flux"});
  EXPECT_EQ(chosen.at("transformer_blocks.0.attn.to_k"), "--exclude *.to_k");
  EXPECT_EQ(chosen.at("transformer_blocks.0.attn.to_q"), "why");
  EXPECT_EQ(chosen.at("proj_out"), "W8A16");  // a rule overrides the preset,
  EXPECT_EQ(chosen.at("narrow"), "W8A16");    // and the smallest K
  EXPECT_EQ(chosen.at("single_transformer_blocks.0.proj_mlp"), "W8A8_DYNAMIC");
  ASSERT_EQ(last_.notes.size(), 1u);
  EXPECT_EQ(last_.notes[0],
            "--rule *.attn.*=w8a16 never applied: what stands before it names the same layers");
}

TEST_F(Selection, APatternThatMatchesNothingNamesTheNearest) {
  for (const ExportOptions& options :
       {ExportOptions{.algorithm = "w8a16", .exclude = {"proj_ou"}},
        ExportOptions{.algorithm = "w8a16",
                      .rules = {{.pattern = "proj_ou", .algorithm = "float"}}}}) {
    const Error error = error_of([&] { select(options); });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("proj_ou"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("matches no layer"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("did you mean proj_out"), std::string::npos)
        << error.what();
  }
}

TEST_F(Selection, UnknownNamesAreErrors) {
  EXPECT_EQ(error_of([&] { select({.algorithm = "w8a15"}); }).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(error_of([&] { select({.algorithm = "w8a16", .preset = "fluxx"}); }).code(),
            ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] {
              select({.algorithm = "w8a16", .rules = {{.pattern = "*", .algorithm = "NF4"}}});
            }).code(),
            ErrorCode::kUnsupported);
}

TEST_F(Selection, ABiasCountsOnlyWhenItFits) {
  select({.algorithm = "w8a16"});
  for (const SelectedLayer& layer : last_.layers) EXPECT_EQ(layer.has_bias, layer.name != "narrow");
}

}  // namespace
}  // namespace mezzotint
