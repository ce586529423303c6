#include "mezzotint/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "nn/linear_oracle.h"
#include "nn/quantize_fixture.h"

namespace mezzotint {
namespace {

// Any descriptor name, two algorithms, an unlisted layer.
TEST(Quantize, SwapsWhatTheDescriptorNamesAndReportsTheRest) {
  TestFolder folder;
  TestModel model;
  const QuantizedFixture files = fixture();
  files.write(folder.path());
  std::filesystem::rename(folder / "quant_model_description_w8a8_dynamic.json", folder / "d.json");
  const Tensor third = model.output(2);
  const Report report = quantize(model.map, folder / "d.json", {}, context());

  EXPECT_EQ(report.quantized(), 2);
  EXPECT_EQ(report.kept(), 1);
  EXPECT_TRUE(report.unmatched.empty());
  EXPECT_EQ(model.linears[0].algorithm(), "W8A8_DYNAMIC");
  EXPECT_EQ(model.linears[1].algorithm(), "W8A16");
  EXPECT_EQ(report.layers[2].reason, "label FLOAT");
  EXPECT_TRUE(same_bytes(model.output(2), third));
  EXPECT_LT(model.linears[0].resident_bytes(), 6 * 32 * 2 + 4096);
  std::mt19937_64 random(41);
  for (size_t i = 0; i < 2; ++i) {
    std::mt19937_64 same(41);
    const Tensor x = normal_tensor(DType::kF32, {3, model.linears[i].in_features()}, same);
    const std::vector<float> values(x.data<float>(), x.data<float>() + x.size());
    const OracleResult expected =
        oracle_linear(std::string(model.linears[i].algorithm()),
                      layer_of(files, model.linears[i].name()), values, 3, DType::kF32);
    EXPECT_EQ(misses(expected, model.output(i)), 0);
  }
}

TEST(Quantize, ALayerThatTheDescriptorDoesNotNameStaysFloat) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  files.erase("proj_out.weight");
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(report.layers[2].reason, "not in the descriptor");
  EXPECT_EQ(report.layers[2].algorithm, "FLOAT");
}

TEST(Quantize, AModelCanBeQuantizedTwice) {
  TestFolder one, two;
  TestModel model, once;
  quantize(model.map, fixture(42).write(one.path()), {}, context());
  quantize(model.map, fixture(43).write(two.path()), {}, context());
  quantize(once.map, two.path(), {}, context());
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bytes(model.output(i), once.output(i)));
}

TEST(Quantize, FilesOfTwoRunsAreRefused) {
  TestFolder one, two;
  TestModel model;
  QuantizedFixture files = fixture(42);
  files.facts = true;
  files.write(one.path());
  QuantizedFixture others = fixture(43);
  others.facts = true;
  others.write(two.path());
  const char* name = "quant_model_weight_w8a8_dynamic.safetensors";
  std::filesystem::copy_file(two / name, one / name,
                             std::filesystem::copy_options::overwrite_existing);
  const Error error = error_of([&] { quantize(model.map, one.path(), {}, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_NE(std::string(error.what()).find("two different runs: expected run "), std::string::npos);
  EXPECT_EQ(model.linears[0].algorithm(), "FLOAT");
}

TEST(Quantize, ATruncatedDescriptorIsRefused) {
  TestFolder folder;
  TestModel model;
  const std::filesystem::path file = fixture().write(folder.path());
  const std::string text = file_text(file);
  for (const size_t length : {size_t{0}, size_t{1}, text.size() / 2, text.size() - 3}) {
    write_text(file, text.substr(0, length));
    const Error error = error_of([&] { quantize(model.map, file, {}, context()); });
    EXPECT_EQ(error.code(), ErrorCode::kInput) << length;
    EXPECT_NE(std::string(error.what()).find(file.filename().string()), std::string::npos);
  }
}

TEST(Quantize, ALabelThatIsNoStringIsRefused) {
  TestFolder folder;
  TestModel model;
  const std::filesystem::path file = fixture().write(folder.path());
  std::string text = file_text(file);
  const std::string good = "\"blocks.0.a.weight\": \"W8A8_DYNAMIC\"";
  const size_t at = text.find(good);
  ASSERT_NE(at, std::string::npos);
  write_text(file, text.replace(at, good.size(), "\"blocks.0.a.weight\": 7"));
  const Error error = error_of([&] { quantize(model.map, file, {}, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_NE(std::string(error.what()).find("a label is not a string"), std::string::npos);
}

// --- forgiveness
// ----------------------------------------------------------------------------------

TEST(Quantize, LenientListsWhatItForgaveAndAppliesTheRest) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  relabel(files, "blocks.0.b", "NF4");
  files.extra_labels = {{"blocks.9.attn.quant_type", "FP8_DYNAMIC"}, {"blocks.7.x", "W8A16"}};
  const Report report = quantize(model.map, files.write(folder.path()),
                                 {.strictness = Strictness::kLenient}, context());
  EXPECT_EQ(report.quantized(), 1);
  EXPECT_EQ(report.unmatched.size(), 3u);
  EXPECT_EQ(model.linears[0].algorithm(), "W8A8_DYNAMIC");
  EXPECT_EQ(model.linears[1].algorithm(), "FLOAT");
  EXPECT_EQ(report.layers[1].reason, "label NF4 is not served");
}

// --- attentions ---------------------------------------------------------------------------------

TEST(Quantize, ReplacesWhatAnAttentionComputes) {
  TestFolder folder;
  TestModel model;
  const Tensor before = model.attended();
  QuantizedFixture files = fixture();
  add_attention(files);
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(model.attention.algorithm(), "FP8_DYNAMIC");
  EXPECT_EQ(report.quantized(), 3);
  ASSERT_EQ(report.layers.size(), 4u);
  const LayerReport& row = report.layers.back();
  EXPECT_EQ(row.name, "blocks.0.attn");
  EXPECT_EQ(row.algorithm, "FP8_DYNAMIC");
  EXPECT_EQ(row.out_features, TestModel::kHeadDim);
  EXPECT_EQ(row.bytes_after, model.attention.resident_bytes());
  double error = 0;
  double size = 0;
  const Tensor after = model.attended();
  for (int64_t i = 0; i < after.size(); ++i) {
    const double exact = before.data<float>()[i];
    error += std::pow(after.data<float>()[i] - exact, 2);
    size += exact * exact;
  }
  EXPECT_LT(error, 0.1 * 0.1 * size);
  EXPECT_GT(error, 0.001 * 0.001 * size) << "not quantized";
}

TEST(Quantize, TheScaleOfNumeratorsIsAnOption) {
  QuantizedFixture files = fixture();
  add_attention(files);
  const TestFolder folder;
  const std::filesystem::path file = files.write(folder.path());
  TestModel one, large;
  quantize(one.map, file, {}, context());
  quantize(large.map, file, {.numerator_scale = 448.0f}, context());
  EXPECT_FALSE(same_bytes(one.attended(), large.attended()));
  const Error error =
      error_of([&] { quantize(one.map, file, {.numerator_scale = 0.0f}, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
}

TEST(Quantize, AnAttentionIsNamedByItsLabelOrAsAWhole) {
  for (const char* key : {"blocks.0.attn.quant_type", "blocks.0.attn", "blocks.0.attn.q_rot"}) {
    TestFolder folder;
    TestModel model;
    QuantizedFixture files = fixture();
    add_attention(files);
    files.extra_labels.clear();
    std::string label = "fp8_dynamic";
    if (std::string_view(key).ends_with("q_rot")) {
      files.at(key).label = label;
    } else {
      files.extra_labels.emplace_back(key, label);
    }
    quantize(model.map, files.write(folder.path()), {}, context());
    EXPECT_EQ(model.attention.algorithm(), "FP8_DYNAMIC") << key;
  }
}

TEST(Quantize, FloatKeepsAnAttention) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  add_attention(files);
  files.extra_labels.emplace_back("blocks.0.attn", "FLOAT");
  quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(model.attention.algorithm(), "FLOAT");
}

TEST(Quantize, FilesOfQuantizedAttentionNeedSlots) {
  TestFolder folder;
  TestModel model;
  model.map.attentions.clear();
  QuantizedFixture files = fixture();
  add_attention(files);
  const std::filesystem::path file = files.write(folder.path());
  const Error error = error_of([&] { quantize(model.map, file, {}, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kStrict);
  EXPECT_NE(std::string(error.what()).find("the model has no slots of attention"),
            std::string::npos);
  const Report report = quantize(model.map, file, {.strictness = Strictness::kLenient}, context());
  EXPECT_EQ(report.quantized(), 2);
  ASSERT_EQ(report.unmatched.size(), 1u);
  EXPECT_NE(report.unmatched[0].find("layer blocks.0.attn"), std::string::npos);
}

TEST(Quantize, LenientDoesNotForgiveDamage) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  files.erase("blocks.0.a.weight_scale");
  const std::filesystem::path file = files.write(folder.path());
  EXPECT_EQ(error_of([&] {
              quantize(model.map, file, {.strictness = Strictness::kLenient}, context());
            }).code(),
            ErrorCode::kInput);
  EXPECT_EQ(model.linears[1].algorithm(), "FLOAT");
}

// --- labels ------------------------------------------------------------------------------------

TEST(Quantize, LabelsInAnyCaseAndOnTheLayerAsAWhole) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  relabel(files, "blocks.0.a", "w8a8_dynamic");
  for (NamedTensor& t : files.tensors) {
    if (t.name.starts_with("blocks.0.b")) t.label = "float";
  }
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(model.linears[0].algorithm(), "W8A8_DYNAMIC");
  EXPECT_EQ(model.linears[1].algorithm(), "FLOAT");
  EXPECT_EQ(report.quantized(), 1);
}

TEST(Quantize, FloatOnTheWeightBeatsALabelOnTheLayer) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  files.extra_labels = {{"proj_out", "W8A8_DYNAMIC"}};
  quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(model.linears[2].algorithm(), "FLOAT");
}

TEST(Quantize, OnlyTheWeightNeedsALabel) {
  TestFolder folder;
  TestModel model;
  const QuantizedFixture files = fixture();
  const std::filesystem::path file = files.write(folder.path());
  Descriptor d;
  d.model_quant_type = "W8A8_DYNAMIC";
  d.labels = {{"blocks.0.a.weight", "W8A8_DYNAMIC"}};
  write_descriptor(file, d);
  EXPECT_EQ(quantize(model.map, file, {}, context()).quantized(), 1);
}

TEST(Quantize, AStoredBiasThatTheLayerHasNoPlaceForIsLeftAsideWithANote) {
  TestFolder folder;
  TestModel model;
  QuantizedFixture files = fixture();
  files.tensors.push_back({"blocks.0.b.linear.bias", "FLOAT",
                           float_tensor(DType::kF32, {5}, std::vector<float>(5, 100.0f))});
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_FALSE(model.linears[1].has_bias());
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("blocks.0.b: the file's bias is left aside"), std::string::npos);
}

TEST(Quantize, ScalesOfAnyShapeAndTypeGiveTheSameBits) {
  std::vector<Tensor> outputs;
  for (const Shape& shape : {Shape{6, 1}, Shape{6}, Shape{1, 6}}) {
    TestFolder folder;
    TestModel model;
    QuantizedFixture files = fixture();
    set_floats(files, "blocks.0.a.weight_scale", 0, 0.125f);
    NamedTensor& scale = files.at("blocks.0.a.weight_scale");
    scale.tensor = scale.tensor.reshaped(shape);
    quantize(model.map, files.write(folder.path()), {}, context());
    outputs.push_back(model.output(0));
  }
  EXPECT_TRUE(same_bytes(outputs[0], outputs[1]));
  EXPECT_TRUE(same_bytes(outputs[0], outputs[2]));
}

// A number at the end of the name is a rank.
TEST(Quantize, ARankSuffixWorksOnASingleCard) {
  for (const char* name : {"q_w8a8_0.json", "foo_2024.json"}) {
    TestFolder folder;
    TestModel model;
    fixture().write(folder.path());
    std::filesystem::rename(folder / "quant_model_description_w8a8_dynamic.json", folder / name);
    EXPECT_EQ(quantize(model.map, folder / name, {}, context()).quantized(), 2) << name;
  }
}

// y(x; W s, mul 1/s) is y(x; W) within the quantization error.
TEST(Quantize, ASmoothedLayerGivesTheFloatLayer) {
  std::mt19937_64 random(44);
  const int64_t n = 24, k = 256;
  const Tensor w = normal_tensor(DType::kF32, {n, k}, random);
  const Tensor mul = Tensor::allocate(DType::kF32, {k});
  const Tensor scaled = Tensor::allocate(DType::kF32, {n, k});
  for (int64_t i = 0; i < n * k; ++i) {
    const float s = i % k % 7 == 0 ? 2.0f : 1.0f;  // powers of two: W s is exact
    scaled.mutable_data<float>()[i] = w.data<float>()[i] * s;
    mul.mutable_data<float>()[i % k] = 1 / s;
  }
  const Linear exact = Linear::from_float("l", w, {});
  const Tensor x = normal_tensor(DType::kF32, {16, k}, random);
  const auto run = [&](const Linear& linear) {
    std::vector<float> y(static_cast<size_t>(16 * n));
    linear.run({x.raw(), DType::kF32, 16, k, k}, {y.data(), DType::kF32, 16, n, n}, context());
    return y;
  };
  const auto error_with = [&](const char* algorithm, const Tensor& factors) {
    TestFolder folder;
    QuantizedFixture files;
    files.tensors =
        write_layer_params(*find_algorithm(algorithm),
                           {.name = "l.linear", .weight = scaled, .bias = {}}, {}, context());
    files.tensors.push_back({"l.div.mul_scale", "FLOAT", factors});
    Linear linear = Linear::from_float("l", w, {});
    ModuleMap map;
    map.linears = {&linear};
    quantize(map, files.write(folder.path()), {}, context());
    const std::vector<float> got = run(linear), expected = run(exact);
    double noise = 0, signal = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      noise += (got[i] - expected[i]) * static_cast<double>(got[i] - expected[i]);
      signal += static_cast<double>(expected[i]) * expected[i];
    }
    return std::sqrt(noise / signal);
  };
  const Tensor ones = float_tensor(DType::kF32, {k}, std::vector<float>(static_cast<size_t>(k), 1));
  for (const auto& [algorithm, most] : {std::pair("W8A16", 0.05),
                                        {"W8A8_DYNAMIC", 0.05},
                                        {"W4A16", 0.2},
                                        {"W4A4_DYNAMIC", 0.35},
                                        {"W8A8_MXFP8", 0.07},
                                        {"W4A4_MXFP4", 0.25}}) {
    EXPECT_LT(error_with(algorithm, mul), most) << algorithm;
    EXPECT_GT(error_with(algorithm, mul), 0.002) << algorithm;  // it was quantized
    EXPECT_GT(error_with(algorithm, ones), error_with(algorithm, mul) + 0.1)
        << algorithm;  // the factors matter
  }
}

TEST(Quantize, TwoLinearsOfOneNameAreRefused) {
  TestFolder folder;
  TestModel model;
  model.map.linears.push_back(&model.linears[0]);
  Linear twin = model.linears[0];
  model.map.linears[2] = &twin;
  EXPECT_EQ(
      error_of([&] { quantize(model.map, fixture().write(folder.path()), {}, context()); }).code(),
      ErrorCode::kUsage);
}

}  // namespace
}  // namespace mezzotint
