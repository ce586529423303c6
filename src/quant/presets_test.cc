#include "quant/presets.h"

#include <gtest/gtest.h>

#include "base/glob.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

WeightStore store_of(const TestFolder& folder, const std::vector<std::string>& names) {
  LayerTensors tensors;
  for (const std::string& name : names) {
    tensors.push_back({name, "", Tensor::copy_of<float>(std::vector<float>(4), {2, 2})});
  }
  write_weights(folder / "model.safetensors", tensors);
  return WeightStore::open_file(folder / "model.safetensors");
}

TEST(Presets, AllParseAndAreNamedAfterTheirFiles) {
  EXPECT_EQ(presets().size(), 5u);
  for (const PresetText& text : preset_texts()) {
    const Preset preset = parse_preset(text.file, text.text);
    EXPECT_EQ("presets/" + preset.name + ".yaml", text.file);
    EXPECT_FALSE(preset.title.empty());
    EXPECT_FALSE(preset.kept.empty());
    EXPECT_FALSE(preset.attentions.empty());
    for (const KeptLayers& kept : preset.kept) EXPECT_FALSE(kept.why.empty()) << kept.pattern;
  }
}

TEST(Presets, EachIsDetectedByItsOwnTensorsOnly) {
  for (const Preset& preset : presets()) {
    TestFolder folder;
    const std::optional<Preset> found = detect_preset(store_of(folder, preset.detect));
    ASSERT_TRUE(found) << preset.name;
    EXPECT_EQ(found->name, preset.name);
  }
  TestFolder folder;
  EXPECT_FALSE(detect_preset(store_of(folder, {"a.weight", "proj_out.weight"})));
}

TEST(Presets, ATensorOfAnotherArchitectureRulesOut) {
  TestFolder folder;
  std::vector<std::string> names = choose_preset("sd3", store_of(folder, {"a"}))->detect;
  names.emplace_back("single_transformer_blocks.0.proj_mlp.weight");
  EXPECT_FALSE(detect_preset(store_of(folder, names)));
}

TEST(Presets, FluxKeepsEmbeddersAndTheLastLayersAndNamesItsGroups) {
  TestFolder folder;
  const Preset flux = *choose_preset("flux", store_of(folder, {"a"}));
  const auto is_kept = [&](const std::string& layer) {
    for (const KeptLayers& kept : flux.kept) {
      if (NamePattern(kept.pattern).matches(layer)) return true;
    }
    return false;
  };
  for (const char* layer :
       {"x_embedder", "context_embedder", "time_text_embed.guidance_embedder.linear_2",
        "norm_out.linear", "proj_out"}) {
    EXPECT_TRUE(is_kept(layer)) << layer;
  }
  for (const char* layer :
       {"single_transformer_blocks.3.proj_out", "transformer_blocks.0.attn.to_q",
        "transformer_blocks.0.norm1.linear"}) {
    EXPECT_FALSE(is_kept(layer)) << layer;
  }
  EXPECT_EQ(flux.shared_inputs.back().members,
            (std::vector<std::string>{"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"}));
}

// q of a cross attention reads what its k does not.
TEST(Presets, SayWhichLayersShareAnInput) {
  const auto of = [](const char* name) {
    return *choose_preset(name, WeightStore::of_tensors({}));
  };
  const Preset flux = of("flux"), wan = of("wan");
  const std::string twin = "transformer_blocks.7.attn", single = "single_transformer_blocks.3.attn";
  EXPECT_TRUE(share_input(flux, twin + ".to_q", twin + ".to_k"));
  EXPECT_TRUE(share_input(flux, single + ".to_q", single + ".to_v"));
  EXPECT_FALSE(share_input(flux, twin + ".to_q", twin + ".add_k_proj"));
  EXPECT_FALSE(share_input(flux, twin + ".to_q", "transformer_blocks.8.attn.to_k"));
  EXPECT_FALSE(share_input(flux, "to_q", "to_k"));
  EXPECT_TRUE(share_input(wan, "blocks.0.attn1.to_q", "blocks.0.attn1.to_k"));
  EXPECT_FALSE(share_input(wan, "blocks.0.attn2.to_q", "blocks.0.attn2.to_k"));
}

TEST(Presets, MistakesInATextNameFileAndKey) {
  const std::string good = "preset: 1\nname: x\ntitle: X\ndetect: [a]\n";
  EXPECT_EQ(parse_preset("f.yaml", good).name, "x");
  const auto expect = [&](const std::string& text, const std::string& words) {
    const Error error = error_of([&] { parse_preset("f.yaml", text); });
    EXPECT_EQ(error.code(), ErrorCode::kInput) << text;
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("file f.yaml"), std::string::npos);
  };
  expect(good + "flaot: []\n",
         "preset key 'flaot': expected one of preset, name, title, detect, absent, float, "
         "attention, shared_input");
  expect(good + "float: [{layers: a}]\n", "preset key 'why': expected a scalar");
  expect(good + "float: [{layers: a, why: b, when: never}]\n", "preset key 'when'");
  expect(good + "attention: [{layers: a}]\n", "either head_dim or head_dim_of");
  expect(good + "shared_input: [{parent: a, members: [b]}]\n", "preset key 'members'");
  expect("preset: 2\nname: x\ntitle: X\ndetect: [a]\n", "expected version 1, got 2");
  expect("preset: 1\nname: x\ntitle: X\n", "preset key 'detect'");
  expect("[1]", "preset key '(root)'");
  expect("a: [", "expected YAML");
}

}  // namespace
}  // namespace mezzotint
