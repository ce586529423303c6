// Conformance cases 1 to 10: names, lookup and files. README.md says what the numbers are.
#include <gtest/gtest.h>

#include <filesystem>

#include "conformance/fixture.h"

namespace mezzotint::conformance {
namespace {

namespace fs = std::filesystem;

TEST(ConformanceEitherWay, Case01_ADescriptorMayHaveAnyName) {
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

TEST(ConformanceUpstream, Case02_UpstreamWantsARankForARankedName) {
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

TEST(ConformanceUpstream, Case03_UpstreamWantsTheGivenFileToo) {
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

TEST(ConformanceUpstream, Case04_UpstreamTakesThemForARankToo) {
  const StaticFiles files("quant_model_weight_w8a8_2024.safetensors");
  const fs::path file = files.describe("foo_2024.json", kStaticDescriptor);
  OneLinear model(6, 32, true);
  EXPECT_EQ(load_error(model.map, file, kUpstream).code(), ErrorCode::kUsage);
  EXPECT_TRUE(model.is_float());
  quantize(model.map, file, {.rank = 2024, .compat = Compat::kUpstream}, context());
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

TEST(ConformanceUpstream, Case05_UpstreamRefusesModesAndLinks) {
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

TEST(ConformanceUpstream, Case06_UpstreamIgnoresLabelsItDoesNotKnow) {
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

TEST(ConformanceUpstream, Case07_UpstreamWantsTheModelsTypeInUpperCase) {
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

constexpr const char* kTwice =
    R"({"0.weight": "FLOAT", "0.weight": "W8A8", "model_quant_type": "W8A8"})";

TEST(ConformanceEitherWay, Case08_BrokenDescriptorsAreRefusedAndReservedKeysHaveNoEffect) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  const std::string bom = "\xef\xbb\xbf";
  for (const QuantizeOptions& options : kEitherWay) {
    for (const std::string& text :
         {std::string("{}"), std::string("[1]"), bom + kStaticDescriptor}) {
      EXPECT_EQ(load_error(model.map, files.describe("d.json", text), options).code(),
                ErrorCode::kInput)
          << text;
    }
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

TEST(Conformance, Case08_AKeyThatStandsTwiceIsRefused) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  const Error error = load_error(model.map, files.describe("d.json", kTwice), {});
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_EQ(error.details().found, "\"0.weight\"");
  EXPECT_TRUE(model.is_float());
}

TEST(ConformanceUpstream, Case08_UpstreamTakesTheLastOfItsValues) {
  const StaticFiles files;
  OneLinear model(6, 32, true);
  const Report report = quantize(model.map, files.describe("d.json", kTwice), kUpstream, context());
  EXPECT_EQ(model.linear.algorithm(), "W8A8");
  EXPECT_TRUE(has_text(report.notes, "upstream takes the last of the values of \"0.weight\""));
  OneLinear kept(6, 32, true);
  quantize(kept.map, files.describe("d.json", R"({"0.weight": "W8A8", "0.weight": "FLOAT",
                                        "1.weight": "FLOAT", "model_quant_type": "W8A8"})"),
           kUpstream, context());
  EXPECT_TRUE(kept.is_float());
}

TEST(Conformance, Case09_AnEntryThatNoLinearAnswersToIsAnError) {
  // One tensor's label is enough to name its layer; upstream looks at the weight's only.
  EXPECT_EQ(algorithm_of(R"("0.quant_bias": "W8A8")", {}), "W8A8");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")", {}), "");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")",
                         {.strictness = Strictness::kLenient}),
            "W8A8");
}

TEST(ConformanceUpstream, Case09_UpstreamLooksAtTheLabelsOfWeightsAndOfLayers) {
  EXPECT_EQ(algorithm_of(R"("0.quant_bias": "W8A8")", kUpstream), "FLOAT");
  EXPECT_EQ(algorithm_of(R"("conv.weight": "W8A8", "0.weight": "W8A8")", kUpstream), "W8A8");
}

TEST(ConformanceEitherWay, Case10_EveryLayerHasItsOwnAlgorithm) {
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

}  // namespace
}  // namespace mezzotint::conformance
