// Conformance cases 11 to 15: the label of a layer and the tensors that it needs.
#include <gtest/gtest.h>

#include <filesystem>

#include "conformance/fixture.h"

namespace mezzotint::conformance {
namespace {

namespace fs = std::filesystem;

// Layer "0" of 6 x 64 under a label that is not the tensors' own.
struct Relabelled {
  Relabelled(const std::string& algorithm, const std::string& label, const LayerDims& dims)
      : tensors(random_layer_of(algorithm, "0", {.dims = dims, .bias = true})) {
    for (NamedTensor& t : tensors) {
      if (t.label != "FLOAT") t.label = label;
    }
    file = write_layer(folder, algorithm, tensors);
  }

  TestFolder folder;
  LayerTensors tensors;
  fs::path file;
};

TEST(Conformance, Case11_TheDocumentsNameOfMxfp4IsAnAlias) {
  const LayerDims dims = {.n = 6, .k = 64};
  const Relabelled alias("W4A4_MXFP4", "W4A4_MXFP4_DYNAMIC", dims);
  const Relabelled plain("W4A4_MXFP4", "W4A4_MXFP4", dims);
  OneLinear a(6, 64, true);
  OneLinear b(6, 64, true);
  quantize(a.map, alias.file, {}, context());
  quantize(b.map, plain.file, {}, context());
  EXPECT_EQ(a.linear.algorithm(), "W4A4_MXFP4");
  EXPECT_EQ(outputs(a.linear, identity(64)), outputs(b.linear, identity(64)));
  std::mt19937_64 random(3);
  const FloatLayer layer = {
      .name = "0", .weight = normal_tensor(DType::kF32, {4, 64}, random), .bias = {}};
  for (const NamedTensor& t :
       write_layer_params(*find_algorithm("W4A4_MXFP4_DYNAMIC"), layer, {}, context())) {
    EXPECT_EQ(t.label, "W4A4_MXFP4") << t.name;
  }
}

// A file whose label upstream does not serve.
void expect_float_in_upstream(const Relabelled& file) {
  OneLinear model(6, 64, true);
  const Report report = quantize(model.map, file.file, kUpstream, context());
  EXPECT_TRUE(model.is_float());
  EXPECT_TRUE(has_text(report.notes, "upstream leaves layers of this algorithm float"));
  EXPECT_EQ(report.quantized(), 0);
}

TEST(ConformanceUpstream, Case11_UpstreamLeavesTheAliasFloat) {
  expect_float_in_upstream({"W4A4_MXFP4", "W4A4_MXFP4_DYNAMIC", {.n = 6, .k = 64}});
  const Relabelled plain("W4A4_MXFP4", "W4A4_MXFP4", {.n = 6, .k = 64});
  OneLinear model(6, 64, true);
  quantize(model.map, plain.file, kUpstream, context());
  EXPECT_EQ(model.linear.algorithm(), "W4A4_MXFP4");
}

TEST(Conformance, Case12_AwqAndGptqLabelsAreGroupedWeightOnly) {
  const LayerDims dims = {.n = 6, .k = 64, .groups = 2};
  for (const char* label : {"W4A16_AWQ", "W4A16_GPTQ"}) {
    const Relabelled files("W4A16", label, dims);
    const Relabelled plain("W4A16", "W4A16", dims);
    OneLinear a(6, 64, true);
    OneLinear b(6, 64, true);
    quantize(a.map, files.file, {}, context());
    quantize(b.map, plain.file, {}, context());
    EXPECT_EQ(a.linear.algorithm(), label);
    EXPECT_EQ(outputs(a.linear, identity(64)), outputs(b.linear, identity(64)));
  }
}

TEST(ConformanceUpstream, Case12_UpstreamLeavesAwqAndGptqFloat) {
  expect_float_in_upstream({"W4A16", "W4A16_AWQ", {.n = 6, .k = 64, .groups = 2}});
  expect_float_in_upstream({"W4A16", "W4A16_GPTQ", {.n = 6, .k = 64, .groups = 2}});
  expect_float_in_upstream({"W8A16", "W8A16_GPTQ", {.n = 6, .k = 64}});
}

TEST(ConformanceEitherWay, Case13_AMissingTensorIsNamedAndTheModelUntouched) {
  StaticFiles files;
  std::erase_if(files.tensors, [](const NamedTensor& t) { return t.name == "0.quant_bias"; });
  write_weights(files.folder / "quant_model_weight_w8a8.safetensors", files.tensors);
  OneLinear model(6, 32, true);
  const std::vector<float> before = outputs(model.linear, identity(32));
  const fs::path file = files.describe("d.json", kStaticDescriptor);
  for (const QuantizeOptions& options : kEitherWay) {
    const Error error = load_error(model.map, file, options);
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    EXPECT_EQ(error.details().tensor, "0.quant_bias");
    EXPECT_NE(std::string(error.what()).find("quant_bias is missing"), std::string::npos);
    EXPECT_TRUE(model.is_float());
    EXPECT_EQ(outputs(model.linear, identity(32)), before);
  }
}

TEST(ConformanceEitherWay, Case14_TheModelSaysWhetherThereIsABias) {
  const RandomLayerOptions with = {.dims = {.n = 6, .k = 32}, .bias = true};
  const RandomLayerOptions without = {.dims = {.n = 6, .k = 32}, .bias = false};
  for (const auto& [algorithm, options] : {std::pair("W8A8_DYNAMIC", QuantizeOptions{}),
                                           {"W8A16", QuantizeOptions{}},
                                           {"W8A8_MXFP8", QuantizeOptions{}},
                                           {"W8A8_DYNAMIC", kUpstream},
                                           {"W8A8_MXFP8", kUpstream}}) {
    TestFolder bare, full;
    OneLinear biased(6, 32, true);
    const Error error =
        load_error(biased.map,
                   write_layer(bare, algorithm, random_layer_of(algorithm, "0", without)), options);
    EXPECT_EQ(error.details().tensor, "0.bias") << algorithm;
    OneLinear unbiased(6, 32, false);
    const Report report =
        quantize(unbiased.map, write_layer(full, algorithm, random_layer_of(algorithm, "0", with)),
                 options, context());
    EXPECT_FALSE(unbiased.linear.has_bias());
    EXPECT_TRUE(has_text(report.notes, "0: the file's bias is left aside")) << algorithm;
    for (const float y :
         outputs(unbiased.linear, float_tensor(DType::kF32, {1, 32}, std::vector<float>(32)))) {
      EXPECT_EQ(y, 0.0f);
    }
  }
}

TEST(ConformanceEitherWay, Case15_SmoothedTensorsStandUnderLinear) {
  const LayerTensors tensors =
      random_layer_of("W8A8_DYNAMIC", "0", {.dims = {.n = 6, .k = 32}, .smoothing = true});
  LayerTensors unsmoothed = tensors;
  std::erase_if(unsmoothed, [](const NamedTensor& t) { return t.name == "0.div.mul_scale"; });
  for (const QuantizeOptions& options : kEitherWay) {
    const TestFolder folder, without;
    OneLinear model(6, 32, true);
    quantize(model.map, write_layer(folder, "W8A8_DYNAMIC", tensors), options, context());
    EXPECT_EQ(model.linear.algorithm(), "W8A8_DYNAMIC");

    OneLinear other(6, 32, true);
    const Error error =
        load_error(other.map, write_layer(without, "W8A8_DYNAMIC", unsmoothed), options);
    EXPECT_EQ(error.code(), ErrorCode::kStrict);
    EXPECT_EQ(error.details().layer, "0.linear");
    EXPECT_TRUE(other.is_float());
  }
}

}  // namespace
}  // namespace mezzotint::conformance
