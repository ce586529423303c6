// Conformance cases 1 to 15: names, lookup and files. README.md says what the numbers are.
#include <gtest/gtest.h>

#include <filesystem>

#include "conformance/fixture.h"

namespace mezzotint::conformance {
namespace {

namespace fs = std::filesystem;

Error load_error(const ModuleMap& model, const fs::path& path, const QuantizeOptions& options) {
  return error_of([&] { quantize(model, path, options, context()); });
}

TEST(Conformance, Case01_ADescriptorMayHaveAnyName) {
  const StaticFiles files;
  const fs::path file = files.describe("d.json", kStaticDescriptor);
  for (const fs::path& p : {file, files.folder / "quant_model_weight_w8a8.safetensors"}) {
    fs::permissions(p, fs::perms{0640});
  }
  for (const QuantizeOptions& options : kEitherWay) {
    OneLinear model(6, 32, true);
    quantize(model.map, file, options, context());
    EXPECT_EQ(model.linear.algorithm(), "W8A8");
  }
}

TEST(Conformance, Case02_ARankedDescriptorTakesRankedWeightsOrElsePlainOnes) {
  for (const char* weights :
       {"quant_model_weight_w8a8_0.safetensors", "quant_model_weight_w8a8.safetensors"}) {
    const StaticFiles files(weights);
    OneLinear model(6, 32, true);
    quantize(model.map, files.describe("q_w8a8_0.json", kStaticDescriptor), {}, context());
    EXPECT_FALSE(model.is_float()) << weights;
  }
  const StaticFiles both("quant_model_weight_w8a8_0.safetensors");
  write_weights(both.folder / "quant_model_weight_w8a8.safetensors",
                random_layer_of("W8A8", "0", {.dims = {.n = 6, .k = 32}}, 12));
  const fs::path file = both.describe("q_w8a8_0.json", kStaticDescriptor);
  EXPECT_EQ(find_quantized_files(file).weights.filename(), "quant_model_weight_w8a8_0.safetensors");
}

TEST(Conformance, Case02_UpstreamWantsARankForARankedName) {
  const StaticFiles files;
  const fs::path file = files.describe("q_w8a8_0.json", kStaticDescriptor);
  OneLinear model(6, 32, true);
  EXPECT_EQ(load_error(model.map, file, kUpstream).code(), ErrorCode::kUsage);
  EXPECT_TRUE(model.is_float());
  quantize(model.map, file, {.rank = 0, .compat = Compat::kUpstream}, context());
  EXPECT_FALSE(model.is_float());
}

TEST(Conformance, Case03_ARankReadsItsOwnFiles) {
  const StaticFiles files("quant_model_weight_w8a8_3.safetensors");
  files.describe("q_w8a8_3.json", kStaticDescriptor);
  const QuantizedFiles found = find_quantized_files(files.folder / "q_w8a8_0.json", 3);
  EXPECT_EQ(found.descriptor.filename(), "q_w8a8_3.json");
  EXPECT_EQ(found.weights.filename(), "quant_model_weight_w8a8_3.safetensors");
  OneLinear model(6, 32, true);
  quantize(model.map, files.folder / "q_w8a8_0.json", {.rank = 3}, context());
  EXPECT_FALSE(model.is_float());
  EXPECT_EQ(load_error(model.map, files.folder / "q_w8a8_0.json", {.rank = 2}).code(),
            ErrorCode::kInput);
}

TEST(Conformance, Case03_UpstreamWantsTheGivenFileToo) {
  const StaticFiles files("quant_model_weight_w8a8_3.safetensors");
  files.describe("q_w8a8_3.json", kStaticDescriptor);
  const QuantizeOptions options = {.rank = 3, .compat = Compat::kUpstream};
  OneLinear model(6, 32, true);
  const fs::path given = files.folder / "q_w8a8_0.json";
  EXPECT_EQ(load_error(model.map, given, options).details().file, given.string());
  quantize(model.map, files.describe("q_w8a8_0.json", kStaticDescriptor), options, context());
  EXPECT_FALSE(model.is_float());
}

TEST(Conformance, Case04_AnyDigitsBehindTheLastBarAreARank) {
  const StaticFiles files("quant_model_weight_w8a8_2024.safetensors");
  const fs::path file = files.describe("foo_2024.json", kStaticDescriptor);
  EXPECT_EQ(find_quantized_files(file).rank, 2024);
  OneLinear model(6, 32, true);
  quantize(model.map, file, {}, context());
  EXPECT_FALSE(model.is_float());
}

TEST(Conformance, Case05_ModesWarnWhereAnyoneMayWriteAndLinksAreFollowed) {
  const StaticFiles files;
  const fs::path file = files.describe("d.json", kStaticDescriptor);
  const fs::path weights = files.folder / "quant_model_weight_w8a8.safetensors";
  for (const int mode : {0644, 0400, 0700, 0660}) {
    fs::permissions(file, fs::perms{static_cast<unsigned>(mode)});
    OneLinear model(6, 32, true);
    const Report report = quantize(model.map, file, {}, context());
    EXPECT_FALSE(model.is_float()) << mode;
    EXPECT_FALSE(has_text(report.notes, "anyone may write")) << mode;
  }
  fs::permissions(file, fs::perms{0602});
  fs::permissions(weights, fs::perms{0666});
  OneLinear model(6, 32, true);
  const Report report = quantize(model.map, file, {}, context());
  EXPECT_TRUE(has_text(report.notes, "anyone may write " + file.string()));
  EXPECT_TRUE(has_text(report.notes, "anyone may write " + weights.string()));

  fs::rename(weights, files.folder / "elsewhere");
  fs::create_symlink(files.folder / "elsewhere", weights);
  OneLinear linked(6, 32, true);
  quantize(linked.map, file, {}, context());
  EXPECT_FALSE(linked.is_float());
  const TestFolder other;
  fs::create_directory_symlink(files.folder.path(), other / "link");
  OneLinear below(6, 32, true);
  quantize(below.map, other / "link" / "d.json", {}, context());
  EXPECT_FALSE(below.is_float());
}

TEST(Conformance, Case05_UpstreamRefusesModesAndLinks) {
  const StaticFiles files;
  const fs::path file = files.describe("d.json", kStaticDescriptor);
  const fs::path weights = files.folder / "quant_model_weight_w8a8.safetensors";
  OneLinear model(6, 32, true);
  for (const unsigned mode : {0644u, 0700u, 0660u}) {
    fs::permissions(file, fs::perms{mode});
    EXPECT_EQ(load_error(model.map, file, kUpstream).details().file, file.string()) << mode;
  }
  fs::permissions(file, fs::perms{0400});
  const TestFolder other;
  fs::create_directory_symlink(files.folder.path(), other / "link");
  quantize(model.map, other / "link" / "d.json", kUpstream, context());
  EXPECT_FALSE(model.is_float());
  fs::rename(weights, files.folder / "elsewhere");
  fs::create_symlink(files.folder / "elsewhere", weights);
  OneLinear linked(6, 32, true);
  EXPECT_EQ(load_error(linked.map, file, kUpstream).details().file, weights.string());
  EXPECT_TRUE(linked.is_float());
}

// What a descriptor of these labels makes of the layer; "" where it is refused.
std::string algorithm_of(const std::string& labels, const QuantizeOptions& options) {
  const StaticFiles files;
  const fs::path file = files.describe("d.json", "{" + labels + R"(, "model_quant_type": "W8A8"})");
  OneLinear model(6, 32, true);
  try {
    quantize(model.map, file, options, context());
  } catch (const Error&) {
    EXPECT_TRUE(model.is_float()) << "a refused file changes nothing";
    return "";
  }
  return std::string(model.linear.algorithm());
}

TEST(Conformance, Case06_LabelsInAnyCaseAndUnknownOnesAreErrors) {
  EXPECT_EQ(algorithm_of(R"("0.weight": "w8a8")", {}), "W8A8");
  EXPECT_EQ(algorithm_of(R"("0.weight": "W9A9")", {}), "");
  EXPECT_EQ(algorithm_of(R"("0.weight": 7, "0.bias": "FLOAT")", {}), "");
  EXPECT_EQ(algorithm_of(R"("0.bias": "FLOAT", "0.weight": "W8A8")", {}), "W8A8");
  EXPECT_EQ(algorithm_of(R"("0": "W8A8", "0.weight": "FLOAT")", {}), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("0": "W8A8", "0.weight": "float")", {}), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("0": "W8A8")", {}), "W8A8");
}

TEST(Conformance, Case06_UpstreamIgnoresLabelsItDoesNotKnow) {
  EXPECT_EQ(algorithm_of(R"("0.weight": "w8a8")", kUpstream), "W8A8");
  EXPECT_EQ(algorithm_of(R"("0.weight": "W9A9")", kUpstream), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("0.weight": 7, "0.bias": "FLOAT")", kUpstream), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("0.bias": "FLOAT", "0.weight": "W8A8")", kUpstream), "W8A8");
  EXPECT_EQ(algorithm_of(R"("0": "W8A8", "0.weight": "FLOAT")", kUpstream), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("0": "W8A8", "0.weight": "float")", kUpstream), "W8A8");
  const StaticFiles files;
  OneLinear model(6, 32, true);
  const Report report = quantize(
      model.map, files.describe("d.json", R"({"0.weight": "W9A9", "model_quant_type": "W8A8"})"),
      kUpstream, context());
  EXPECT_TRUE(has_text(report.notes, "upstream ignores a label it does not know"));
  EXPECT_EQ(report.layers.at(0).reason, "upstream ignores W9A9");
}

TEST(Conformance, Case07_TheModelsTypeNamesTheWeightFile) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  quantize(model.map,
           files.describe("d.json", R"({"0.weight": "W8A8", "model_quant_type": "w8a8"})"), {},
           context());
  EXPECT_FALSE(model.is_float());
  OneLinear other(6, 32, true);
  const char* refused[] = {R"({"0.weight": "W8A8"})",
                           R"({"0.weight": "W8A8", "model_quant_type": 8})",
                           R"({"0.weight": "W8A8", "model_quant_type": "FLOAT"})"};
  for (const char* text : refused) {
    EXPECT_EQ(load_error(other.map, files.describe("d.json", text), {}).code(), ErrorCode::kInput)
        << text;
  }
  EXPECT_TRUE(other.is_float());
}

TEST(Conformance, Case07_UpstreamWantsTheModelsTypeInUpperCase) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  for (const char* type : {R"("w8a8")", "8", R"("FLOAT")", R"("W4A4_MXFP4_DYNAMIC")"}) {
    const std::string text =
        std::string(R"({"0.weight": "W8A8", "model_quant_type": )") + type + "}";
    const Error error = load_error(model.map, files.describe("d.json", text), kUpstream);
    EXPECT_EQ(error.code(), ErrorCode::kInput) << type;
  }
  EXPECT_TRUE(model.is_float());
}

TEST(Conformance, Case08_BrokenDescriptorsAreRefusedAndReservedKeysHaveNoEffect) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  const std::string bom = "\xef\xbb\xbf";
  const std::string refused[] = {
      "{}", "[1]", bom + kStaticDescriptor,
      R"({"0.weight": "FLOAT", "0.weight": "W8A8", "model_quant_type": "W8A8"})"};
  for (const std::string& text : refused) {
    EXPECT_EQ(load_error(model.map, files.describe("d.json", text), {}).code(), ErrorCode::kInput)
        << text;
  }
  EXPECT_TRUE(model.is_float());
  const fs::path extra = files.describe(
      "d.json",
      R"({"0.weight": "W8A8", "model_quant_type": "W8A8", "version": "1.0.0", "metadata": {},
          "group_size": 64, "optional": {}})");
  for (const QuantizeOptions& options : kEitherWay) {
    OneLinear reserved(6, 32, true);
    const Report report = quantize(reserved.map, extra, options, context());
    EXPECT_FALSE(reserved.is_float());
    EXPECT_TRUE(report.unmatched.empty());
    EXPECT_TRUE(report.notes.empty());
  }
}

TEST(Conformance, Case09_AnEntryThatNoLinearAnswersToIsAnError) {
  // One tensor's label is enough to name its layer; upstream looks at the weight's only.
  EXPECT_EQ(algorithm_of(R"("0.quant_bias": "W8A8")", {}), "W8A8");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")", {}), "");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")",
                         {.strictness = Strictness::kLenient}),
            "W8A8");
}

TEST(Conformance, Case09_UpstreamLooksAtTheLabelsOfWeightsAndOfLayers) {
  EXPECT_EQ(algorithm_of(R"("0.quant_bias": "W8A8")", kUpstream), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")", kUpstream), "W8A8");
}

TEST(Conformance, Case10_EveryLayerHasItsOwnAlgorithm) {
  TestFolder folder;
  QuantizedFixture files;
  files.type = "W8A8_DYNAMIC";
  for (const auto& [name, algorithm] :
       {std::pair("blocks.0.a", "W8A8"), std::pair("blocks.0.b", "W8A8_DYNAMIC")}) {
    const bool is_a = std::string(name) == "blocks.0.a";
    for (NamedTensor& t : random_layer_of(algorithm, name,
                                          {.dims = {.n = is_a ? 6 : 5, .k = is_a ? 32 : 48},
                                           .bias = is_a,
                                           .smoothing = false})) {
      files.tensors.push_back(std::move(t));
    }
  }
  const fs::path file = files.write(folder.path());
  for (const QuantizeOptions& options : kEitherWay) {
    TestModel model;
    const Report report = quantize(model.map, file, options, context());
    EXPECT_EQ(model.linears[0].algorithm(), "W8A8");
    EXPECT_EQ(model.linears[1].algorithm(), "W8A8_DYNAMIC");
    EXPECT_EQ(model.linears[2].algorithm(), "FLOAT");
    EXPECT_EQ(report.layers[2].reason, "not in the descriptor");
  }
  EXPECT_TRUE(fs::exists(folder / "quant_model_weight_w8a8_dynamic.safetensors"));
}

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

TEST(Conformance, Case12_UpstreamLeavesAwqGptqAndTheAliasFloat) {
  const Relabelled files[] = {
      {"W4A16", "W4A16_AWQ", {.n = 6, .k = 64, .groups = 2}},
      {"W8A16", "W8A16_GPTQ", {.n = 6, .k = 64}},
      {"W4A4_MXFP4", "W4A4_MXFP4_DYNAMIC", {.n = 6, .k = 64}}};  // the last is case 11
  for (const Relabelled& file : files) {
    OneLinear model(6, 64, true);
    const Report report = quantize(model.map, file.file, kUpstream, context());
    EXPECT_TRUE(model.is_float());
    EXPECT_TRUE(has_text(report.notes, "upstream leaves layers of this algorithm float"));
    EXPECT_EQ(report.quantized(), 0);
  }
}

TEST(Conformance, Case13_AMissingTensorIsNamedAndTheModelUntouched) {
  StaticFiles files;
  std::erase_if(files.tensors, [](const NamedTensor& t) { return t.name == "0.quant_bias"; });
  write_weights(files.folder / "quant_model_weight_w8a8.safetensors", files.tensors);
  OneLinear model(6, 32, true);
  const std::vector<float> before = outputs(model.linear, identity(32));
  const Error error = load_error(model.map, files.describe("d.json", kStaticDescriptor), {});
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_EQ(error.details().tensor, "0.quant_bias");
  EXPECT_NE(std::string(error.what()).find("quant_bias is missing"), std::string::npos);
  EXPECT_TRUE(model.is_float());
  EXPECT_EQ(outputs(model.linear, identity(32)), before);
  EXPECT_EQ(load_error(model.map, files.folder / "d.json", kUpstream).details().tensor,
            "0.quant_bias");
}

TEST(Conformance, Case14_TheModelSaysWhetherThereIsABias) {
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

TEST(Conformance, Case15_SmoothedTensorsStandUnderLinear) {
  LayerTensors tensors =
      random_layer_of("W8A8_DYNAMIC", "0", {.dims = {.n = 6, .k = 32}, .smoothing = true});
  TestFolder folder;
  OneLinear model(6, 32, true);
  quantize(model.map, write_layer(folder, "W8A8_DYNAMIC", tensors), {}, context());
  EXPECT_EQ(model.linear.algorithm(), "W8A8_DYNAMIC");

  std::erase_if(tensors, [](const NamedTensor& t) { return t.name == "0.div.mul_scale"; });
  TestFolder without;
  OneLinear other(6, 32, true);
  const Error error = load_error(other.map, write_layer(without, "W8A8_DYNAMIC", tensors), {});
  EXPECT_EQ(error.code(), ErrorCode::kStrict);
  EXPECT_EQ(error.details().layer, "0.linear");
  EXPECT_TRUE(other.is_float());
  EXPECT_EQ(load_error(other.map, without.path(), kUpstream).details().layer, "0.linear");
}

}  // namespace
}  // namespace mezzotint::conformance
