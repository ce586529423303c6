// Export of quantized attentions: ExportOptions::attentions.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "mezzotint/quantize.h"
#include "quant/file_fixture.h"
#include "quant/quantized_folder.h"
#include "solve/hadamard.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

const LayerReport& row(const Report& report, const std::string& name) {
  const auto it = std::ranges::find(report.layers, name, &LayerReport::name);
  if (it == report.layers.end()) throw Error(ErrorCode::kInternal, "no row " + name);
  return *it;
}

// Two attentions of Flux with a linear each, and one linear beside them.
struct AttentionSource {
  AttentionSource() {
    std::mt19937_64 random(51);
    const auto add = [&](const std::string& name, const Shape& shape) {
      tensors.push_back({name, "", normal_tensor(DType::kBF16, shape, random)});
    };
    for (const char* name :
         {"x_embedder", "context_embedder", "transformer_blocks.0.norm1_context.linear",
          "single_transformer_blocks.0.proj_mlp"}) {
      add(std::string(name) + ".weight", {4, 32});
    }
    for (const char* block : {"transformer_blocks.0", "single_transformer_blocks.0"}) {
      add(std::string(block) + ".attn.to_q.weight", {64, 32});
      add(std::string(block) + ".attn.norm_q.weight", {64});
    }
    write_weights(folder / "model.safetensors", tensors);
  }
  Report write(const ExportOptions& options) const {
    return export_quantized(WeightStore::open_file(folder / "model.safetensors"), folder / "out",
                            options, context());
  }

  TestFolder folder;
  LayerTensors tensors;
};

constexpr const char* kDouble = "transformer_blocks.0.attn";
constexpr const char* kSingle = "single_transformer_blocks.0.attn";

std::vector<std::string> attentions_in(const fs::path& folder) {
  const QuantizedFolder opened = open_quantized(folder);
  require_no_problems(opened);
  std::vector<std::string> names;
  for (const AttentionEntry& entry : opened.attentions) {
    EXPECT_NO_THROW(read_attention(opened, entry));
    names.push_back(entry.layer);
  }
  return names;
}

TEST(ExportAttention, WritesOneRotationTwiceWhereThePresetKnowsAttentions) {
  const AttentionSource source;
  const Report report =
      source.write({.algorithm = "w8a8_dynamic", .attentions = {{.algorithm = "fp8_dynamic"}}});
  const fs::path out = source.folder / "out";
  EXPECT_EQ(attentions_in(out), (std::vector<std::string>{kSingle, kDouble}));
  const WeightStore store =
      WeightStore::open_file(out / "quant_model_weight_w8a8_dynamic.safetensors");
  const Descriptor descriptor = read_descriptor(out / "quant_model_description_w8a8_dynamic.json");
  for (const std::string name : {kDouble, kSingle}) {
    EXPECT_EQ(*descriptor.label(name + ".quant_type"), "FP8_DYNAMIC");
    EXPECT_EQ(*descriptor.label(name + ".q_rot"), "FLOAT");
    EXPECT_TRUE(same_bytes(store.read(name + ".q_rot"), make_rotation(64, kRotationSeed)));
    EXPECT_TRUE(same_bytes(store.read(name + ".k_rot"), make_rotation(64, kRotationSeed)));
    EXPECT_EQ(row(report, name).algorithm, "FP8_DYNAMIC");
    EXPECT_EQ(row(report, name).in_features, 64);
    EXPECT_EQ(row(report, name).bytes_after, 2 * 64 * 64 * 2);
  }
  EXPECT_EQ(report.bytes_after, store.total_bytes());
}

TEST(ExportAttention, PatternsChooseAndExclusionsWin) {
  const AttentionSource source;
  const Report one = source.write(
      {.algorithm = "w8a16", .attentions = {{.algorithm = "fp8_dynamic", .pattern = "single*"}}});
  EXPECT_EQ(attentions_in(source.folder / "out"), std::vector<std::string>{kSingle});
  EXPECT_EQ(row(one, kDouble).reason, "no --fa names it");
  const Report other = source.write({.algorithm = "w8a16",
                                     .attentions = {{.algorithm = "fp8_dynamic"}},
                                     .exclude = {kSingle},
                                     .overwrite = true});
  EXPECT_EQ(attentions_in(source.folder / "out"), std::vector<std::string>{kDouble});
  EXPECT_EQ(row(other, kSingle).reason, std::string("--exclude ") + kSingle);
}

TEST(ExportAttention, WithoutAPresetThePatternNamesModulesAndTheirHeads) {
  const AttentionSource source;
  source.write({.algorithm = "",
                .attentions = {{.algorithm = "fp8_dynamic", .pattern = "*.attn", .head_dim = 32}},
                .preset = "none"});
  EXPECT_EQ(attentions_in(source.folder / "out").size(), 2u);
  const WeightStore store =
      WeightStore::open_file(source.folder / "out/quant_model_weight_fp8_dynamic.safetensors");
  EXPECT_EQ(store.info(std::string(kDouble) + ".q_rot").shape, (Shape{32, 32}));
}

TEST(ExportAttention, DequantizeGivesTheSourceBack) {
  const AttentionSource source;
  source.write({.algorithm = "", .attentions = {{.algorithm = "fp8_dynamic"}}});
  const Report report =
      dequantize(source.folder / "out", source.folder / "back.safetensors", {}, context());
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("2 attentions are float again"), std::string::npos);
  const WeightStore back = WeightStore::open_file(source.folder / "back.safetensors");
  ASSERT_EQ(back.tensors().size(), source.tensors.size());
  for (const NamedTensor& t : source.tensors) EXPECT_TRUE(same_bytes(back.read(t.name), t.tensor));
}

TEST(ExportAttention, RefusesWhatCannotBeDone) {
  const AttentionSource source;
  const auto refused = [&](const AttentionRule& rule, const std::string& preset) {
    return error_of(
        [&] { source.write({.algorithm = "w8a16", .attentions = {rule}, .preset = preset}); });
  };
  const auto expect = [](const Error& error, ErrorCode code, const char* text) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  };
  expect(refused({.algorithm = "fp8_dynamic"}, "none"), ErrorCode::kUsage,
         "which modules are attentions?");
  expect(refused({.algorithm = "fp8_dynamic", .pattern = "*.atn"}, "auto"), ErrorCode::kUsage,
         "matches no attention");
  expect(refused({.algorithm = "w8a16"}, "auto"), ErrorCode::kUnsupported,
         "W8A16 is an algorithm of linears");
  expect(refused({.algorithm = "mxfp8_dynamic"}, "auto"), ErrorCode::kUnsupported,
         "MXFP8_DYNAMIC is not served");
  expect(refused({.algorithm = "fp8_dynamic", .pattern = kDouble, .head_dim = 256}, "auto"),
         ErrorCode::kUnsupported, "FP8_DYNAMIC does not serve this head_dim: expected 1..128");
  EXPECT_FALSE(fs::exists(source.folder / "out"));
}

}  // namespace
}  // namespace mezzotint
