// Recipes as msmodelslim 2026-07 ships them for diffusion models: anchors, quotes, capital True.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "format/expect_error.h"
#include "quant/recipe.h"

namespace mezzotint {
namespace {

Recipe parsed(const std::string& text) { return parse_recipe("practice.yaml", text); }

constexpr const char* kMixed = R"(
apiversion: multimodal_sd_modelslim_v1
metadata:
  config_id: some_model_w4a4f8
  score: 90
  verified_tags:
    Some-Model:
      - - MindIE-SD
        - Atlas_350
  label: {w_bit: 4, a_bit: 4, is_sparse: False, fa_quant: True}

narrow_exclude: &narrow_exclude
  - "*blocks.0.*"
  - "*blocks.1.*"
  - "*txt_mod.1*"

narrow: &narrow
  act: {scope: "per_block", dtype: "mxfp4", symmetric: True, method: "minmax"}
  weight:
    scope: "per_block"
    dtype: "mxfp4"
    symmetric: True
    method: "ceil_x"
    ext: {
      enable_search: True
    }

spec:
  process:
    - type: "linear_quant"
      qconfig: *narrow
      include: ["*"]
      exclude: *narrow_exclude
    - type: "linear_quant"
      qconfig:
        act: {scope: "per_block", dtype: "mxfp8", symmetric: True, method: "minmax"}
        weight: {scope: "per_block", dtype: "mxfp8", symmetric: True, method: "mse_round"}
      include:
        - "*blocks.0.*"
        - "*blocks.1.*"
    - type: "online_quarot"
      include: ["*.self_attn.*"]
    - type: "fa3_quant"
      qconfig: {dtype: "fp8_e4m3", scope: "per_token", symmetric: True, method: "minmax"}
      include:
        - "*self_attn"
      exclude:
        - "*blocks.0.self_attn*"
  runner: layer_wise
  dataset: wan2_2_t2v
  save:
    - type: "mindie_format_saver"
      part_file_size: 4
  multimodal_sd_config:
    dump_config: {enable_dump: False, capture_mode: "args"}
    inference_config: {size: "1280*720", frame_num: 81}
)";

// One linear_quant with this act and weight, after `before`.
std::string one(const std::string& act, const std::string& weight, const std::string& before = "") {
  return "apiversion: multimodal_sd_modelslim_v1\nspec:\n  process:\n" + before +
         "    - type: linear_quant\n      qconfig: {" + act + "weight: {" + weight +
         ", symmetric: True, method: minmax}}\n";
}
std::string act(const std::string& text) {
  return "act: {" + text + ", symmetric: True, method: minmax}, ";
}

TEST(MsmodelslimRecipe, BecomesADefaultRulesAndAttentions) {
  const Recipe recipe = parsed(kMixed);
  const ExportOptions& o = recipe.options;
  EXPECT_EQ(o.algorithm, "W4A4_MXFP4");
  ASSERT_EQ(o.rules.size(), 3u);
  EXPECT_EQ(o.rules[0].pattern, "*blocks.0.*");
  EXPECT_EQ(o.rules[0].algorithm, "W8A8_MXFP8");
  EXPECT_EQ(o.rules[1].pattern, "*blocks.1.*");
  EXPECT_EQ(o.rules[2].pattern, "*txt_mod.1*");
  EXPECT_EQ(o.rules[2].algorithm, "float");
  EXPECT_EQ(o.rules[2].reason, "exclude *txt_mod.1* of the recipe");
  ASSERT_EQ(o.attentions.size(), 1u);
  EXPECT_EQ(o.attentions[0].algorithm, "FP8_DYNAMIC");
  EXPECT_EQ(o.attentions[0].pattern, "*self_attn");
  EXPECT_EQ(o.attentions[0].except, std::vector<std::string>{"*blocks.0.self_attn*"});
  EXPECT_EQ(o.max_shard_bytes, 4'000'000'000);
  EXPECT_EQ(o.calibration.smoothing, Smoothing::kNone);
  EXPECT_EQ(recipe.notes.size(), 3u);  // runner, dataset, multimodal_sd_config
}

TEST(MsmodelslimRecipe, KnowsTheFormatsThatAreAlgorithms) {
  const auto algorithm = [](const std::string& text) { return parsed(text).options.algorithm; };
  const std::string int8 = "dtype: int8, scope: per_channel";
  EXPECT_EQ(algorithm(one("", int8)), "W8A16");
  EXPECT_EQ(algorithm(one(act("dtype: int8, scope: per_token"), int8)), "W8A8_DYNAMIC");
  EXPECT_EQ(algorithm(one(act("dtype: int8, scope: per_tensor"), int8)), "W8A8");
  const std::string mx = "dtype: mxfp4, scope: per_block";
  EXPECT_EQ(algorithm(one(act(mx), mx)), "W4A4_MXFP4");
  EXPECT_EQ(algorithm(one(act(mx), mx, "    - type: svd_res\n")), "W4A4_MXFP4_SVD");
  EXPECT_EQ(parsed(one(act(mx), mx, "    - {type: svd_res, rank: 64}\n")).options.svd_rank, 64);
  const std::string dual = "dtype: mxfp4, scope: dual_scale";
  EXPECT_EQ(algorithm(one(act(dual), dual)), "W4A4_MXFP4_DUALSCALE");
  const std::string int4 = "dtype: int4, scope: per_group, ext: {group_size: 32}";
  EXPECT_EQ(algorithm(one("", int4)), "W4A16");
  EXPECT_EQ(parsed(one("", int4)).options.group_size, 32);
  EXPECT_EQ(algorithm(one("", int4, "    - {type: awq, n_grid: 20}\n")), "W4A16_AWQ");
}

TEST(MsmodelslimRecipe, SmoothingIsSearched) {
  const std::string int8 = "dtype: int8, scope: per_channel";
  const std::string act8 = act("dtype: int8, scope: per_token");
  const Recipe recipe = parsed(one(act8, int8, "    - {type: iter_smooth, alpha: 0.5}\n"));
  EXPECT_EQ(recipe.options.calibration.smoothing, Smoothing::kSearch);
  EXPECT_EQ(recipe.notes.size(), 1u);
}

TEST(MsmodelslimRecipe, NamesWhatItDoesNotKnowOrDo) {
  const auto refuse = [](ErrorCode code, std::string text, const std::string& from,
                         const std::string& to, std::initializer_list<std::string_view> parts) {
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    SCOPED_TRACE(to);
    expect_error(code, parts, [&] { parsed(text); });
  };
  constexpr ErrorCode kInput = ErrorCode::kInput, kUnsupported = ErrorCode::kUnsupported;
  refuse(kInput, kMixed, "include: [\"*\"]", "inclde: [\"*\"]",
         {"'inclde'", "did you mean include", "practice.yaml:32"});
  refuse(kInput, kMixed, "\"online_quarot\"", "\"onlin_quarot\"",
         {"'type'", "got onlin_quarot", "did you mean online_quarot"});
  refuse(kInput, kMixed, "enable_search", "enable_sarch", {"'enable_sarch'"});
  refuse(kInput, kMixed, "\"ceil_x\"", "\"ceil_y\"", {"'method'", "got ceil_y"});
  refuse(kInput, kMixed, "spec:", "sepc:", {"'spec'"});
  refuse(kInput, kMixed, "multimodal_sd_modelslim_v1", "modelslim_v1", {"got modelslim_v1"});
  refuse(kInput, kMixed, "mindie_format_saver", "ascendv1_saver", {"got ascendv1_saver"});
  // A layer that the first entry has quantized already.
  refuse(kInput, kMixed, "        - \"*blocks.1.*\"", "        - \"*blocks.2.*\"",
         {"earlier linear_quant", "got *blocks.2.*"});
  refuse(kUnsupported, kMixed, "\"fp8_e4m3\", scope: \"per_token\"",
         "\"mxfp4\", scope: \"per_block\"", {"an attention format", "mxfp4 per_block"});
  refuse(kUnsupported, kMixed, "dtype: \"mxfp4\", symmetric", "dtype: \"int8\", symmetric",
         {"a number format", "act int8 per_block, weight mxfp4 per_block"});
  const std::string int8 = "dtype: int8, scope: per_channel";
  refuse(kInput, one("", int8, "    - {type: svd_res, rank: 64}\n"), "rank: 64", "rank: -1",
         {"'rank'", "1 or more", "got -1"});
  refuse(kUnsupported, one("", int8, "    - {type: smooth_quant, include: [a]}\n"), "[a]", "[b]",
         {"for some layers only"});
}

}  // namespace
}  // namespace mezzotint
