#include "mezzotint/quantize.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "nn/linear_oracle.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2, .log = {.sink = [](LogLevel, std::string_view) {}}});
  return ctx;
}

// Three float linears; b has no bias.
struct Model {
  Model() {
    std::mt19937_64 random(40);
    add("blocks.0.a", 6, 32, true, random);
    add("blocks.0.b", 5, 48, false, random);
    add("proj_out", 4, 32, true, random);
    for (Linear& linear : linears) map.linears.push_back(&linear);
  }
  void add(const std::string& name, int64_t n, int64_t k, bool bias, std::mt19937_64& random) {
    std::optional<Tensor> b;
    if (bias) b = normal_tensor(DType::kF32, {n}, random);
    linears.push_back(Linear::from_float(name, normal_tensor(DType::kBF16, {n, k}, random), b));
  }

  Tensor output(size_t i) const {
    const Linear& linear = linears[i];
    std::mt19937_64 random(41);
    const Tensor x = normal_tensor(DType::kF32, {3, linear.in_features()}, random);
    Tensor y = Tensor::allocate(DType::kF32, {3, linear.out_features()});
    linear.run({x.raw(), DType::kF32, 3, x.dim(1), x.dim(1)},
               {y.buffer().mutable_data(), DType::kF32, 3, y.dim(1), y.dim(1)}, context());
    return y;
  }

  std::vector<Linear> linears;
  ModuleMap map;
};

// Files for the first two linears; the third is labelled FLOAT.
QuantizedFixture fixture(uint64_t seed = 42) {
  std::mt19937_64 random(seed);
  QuantizedFixture files;
  const auto add = [&](const char* algorithm, const char* name, const RandomLayerOptions& options) {
    for (NamedTensor& t : make_random_layer(*find_algorithm(algorithm), name, options, random)) {
      files.tensors.push_back(std::move(t));
    }
  };
  add("W8A8_DYNAMIC", "blocks.0.a", {.dims = {6, 32}, .bias = true, .smoothing = false});
  add("W8A16", "blocks.0.b", {.dims = {5, 48}, .bias = false, .smoothing = true});
  files.tensors.push_back(
      {"proj_out.weight", "FLOAT", normal_tensor(DType::kBF16, {4, 32}, random)});
  return files;
}

LayerTensors layer_of(const QuantizedFixture& files, const std::string& layer) {
  LayerTensors tensors;
  for (const NamedTensor& t : files.tensors) {
    if (t.name.starts_with(layer + ".")) tensors.push_back(t);
  }
  return tensors;
}

// formats.md 7, cases 1 and 10: any descriptor name, two algorithms, an unlisted layer.
TEST(Quantize, SwapsWhatTheDescriptorNamesAndReportsTheRest) {
  TestFolder folder;
  Model model;
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
  Model model;
  QuantizedFixture files = fixture();
  files.erase("proj_out.weight");
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(report.layers[2].reason, "not in the descriptor");
  EXPECT_EQ(report.layers[2].algorithm, "FLOAT");
}

TEST(Quantize, AModelCanBeQuantizedTwice) {
  TestFolder one, two;
  Model model, once;
  quantize(model.map, fixture(42).write(one.path()), {}, context());
  quantize(model.map, fixture(43).write(two.path()), {}, context());
  quantize(once.map, two.path(), {}, context());
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bytes(model.output(i), once.output(i)));
}

// --- every single corruption: the right code, the right words, and an untouched model
// -------------

struct Corruption {
  const char* name;
  std::function<void(QuantizedFixture&)> corrupt;
  ErrorCode code;
  std::vector<std::string> words;  // all stand in the message
};

void set_floats(QuantizedFixture& files, const std::string& tensor, size_t at, float value) {
  NamedTensor& t = files.at(tensor);
  std::vector<float> values(static_cast<size_t>(t.tensor.size()));
  widen_into(t.tensor, values);
  values[at] = value;
  t.tensor = float_tensor(DType::kF32, t.tensor.shape(), values);
}

void relabel(QuantizedFixture& files, const std::string& layer, const std::string& label) {
  for (NamedTensor& t : files.tensors) {
    if (t.name.starts_with(layer) && t.label != "FLOAT") t.label = label;
  }
}

std::vector<Corruption> corruptions() {
  const std::string a = "blocks.0.a";
  const std::string b = "blocks.0.b.linear";
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  return {
      {"weight missing",
       [=](auto& f) {
         f.erase(a + ".weight");
         f.extra_labels = {{a + ".weight", "W8A8_DYNAMIC"}};
       },
       ErrorCode::kInput,
       {"weight is missing", "expected [6,32]", "layer blocks.0.a", "tensor blocks.0.a.weight",
        "quant_model_weight_w8a8_dynamic.safetensors"}},
      {"scale missing",
       [=](auto& f) { f.erase(a + ".weight_scale"); },
       ErrorCode::kInput,
       {"weight_scale is missing", "expected [6,1] or [6] or [1,6]", "layer blocks.0.a"}},
      {"bias missing",
       [=](auto& f) { f.erase(a + ".bias"); },  // case 14
       ErrorCode::kInput,
       {"bias is missing", "a bias, as the model's layer has one", "layer blocks.0.a"}},
      {"float weight",
       [=](auto& f) {
         std::mt19937_64 r(1);
         f.at(a + ".weight").tensor = normal_tensor(DType::kBF16, {6, 32}, r);
       },
       ErrorCode::kInput,
       {"weight has the wrong dtype: expected I8, got BF16", "layer blocks.0.a"}},
      {"integer scale",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             Tensor::copy_of<int32_t>(std::vector<int32_t>(6, 1), {6, 1});
       },
       ErrorCode::kInput,
       {"weight_scale has the wrong dtype: expected F32 or BF16 or F16, got I32"}},
      {"fused weight",
       [=](auto& f) {
         f.at(a + ".weight").tensor =
             Tensor::copy_of<int8_t>(std::vector<int8_t>(18 * 32, 1), {18, 32});
       },
       ErrorCode::kInput,
       {"weight has the wrong shape: expected [6,32], got [18,32]", "layer blocks.0.a"}},
      {"long scale",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             float_tensor(DType::kF32, {18, 1}, std::vector<float>(18, 1));
       },
       ErrorCode::kInput,
       {"weight_scale has the wrong shape: expected [6,1] or [6] or [1,6], got [18,1]"}},
      {"long bias",
       [=](auto& f) {
         f.at(a + ".bias").tensor = float_tensor(DType::kF32, {7}, std::vector<float>(7, 1));
       },
       ErrorCode::kInput,
       {"bias has the wrong shape: expected [6], got [7]"}},
      {"short smoothing",
       [](auto& f) {
         f.at("blocks.0.b.div.mul_scale").tensor =
             float_tensor(DType::kF32, {47}, std::vector<float>(47, 1));
       },
       ErrorCode::kInput,
       {"div.mul_scale has the wrong shape", "[48]", "got [47]", "layer blocks.0.b"}},
      {"nan scale",
       [=](auto& f) { set_floats(f, a + ".weight_scale", 4, kNan); },
       ErrorCode::kInput,
       {"weight_scale holds a value that cannot be right: expected finite values >= 0, got nan at "
        "4"}},
      {"infinite scale",
       [=](auto& f) { set_floats(f, b + ".weight_scale", 0, kInf); },
       ErrorCode::kInput,
       {"got inf at 0", "layer blocks.0.b", "tensor blocks.0.b.linear.weight_scale"}},
      {"negative scale",
       [=](auto& f) { set_floats(f, a + ".weight_scale", 2, -0.5f); },
       ErrorCode::kInput,
       {"got -0.5 at 2"}},
      {"nan bias",
       [=](auto& f) { set_floats(f, a + ".bias", 1, kNan); },
       ErrorCode::kInput,
       {"bias holds a value that cannot be right", "got nan at 1"}},
      {"grouped scales",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             float_tensor(DType::kF32, {6, 4}, std::vector<float>(24, 1));
       },
       ErrorCode::kUnsupported,
       {"one scale per group of 8 columns", "got [6,4]"}},
      {"asymmetric",
       [=](auto& f) {  // case 24, refused
         f.erase(b + ".weight_offset");
         f.tensors.push_back(
             {b + ".weight_offset", "W8A16", float_tensor(DType::kF32, {5, 1}, {0, 0, -28, 0, 0})});
       },
       ErrorCode::kUnsupported,
       {"asymmetric weights are not served", "expected zeros, got -28 at 2", "layer blocks.0.b"}},
      {"low rank",
       [](auto& f) {
         std::mt19937_64 r(1);
         f.tensors.push_back(
             {"blocks.0.a.svd_lowrank_l1", "FLOAT", normal_tensor(DType::kBF16, {4, 32}, r)});
       },
       ErrorCode::kUnsupported,
       {"low-rank branches are not served", "layer blocks.0.a"}},
      {"unknown label",
       [=](auto& f) { relabel(f, a, "W9A9"); },  // case 6
       ErrorCode::kUnsupported,
       {"unknown algorithm", "got W9A9", "layer blocks.0.a", "did you mean",
        "quant_model_description"}},
      {"planned label",
       [=](auto& f) { relabel(f, a, "W4A16_AWQ"); },
       ErrorCode::kUnsupported,
       {"algorithm W4A16_AWQ is not served by this version", "layer blocks.0.a"}},
      {"foreign label",
       [=](auto& f) { relabel(f, a, "NF4"); },
       ErrorCode::kUnsupported,
       {"algorithm NF4 is not served by this version", "layer blocks.0.a"}},
      {"two labels",
       [=](auto& f) { f.at(a + ".weight_scale").label = "W8A16"; },
       ErrorCode::kInput,
       {"the labels of one layer contradict: expected W8A8_DYNAMIC as for blocks.0.a.weight, got "
        "W8A16"}},
      {"float weight label",
       [=](auto& f) { f.at(a + ".weight").label = "FLOAT"; },
       ErrorCode::kInput,
       {"the labels of one layer contradict", "got FLOAT", "layer blocks.0.a"}},
      {"label on a foreign tensor",
       [](auto& f) {
         f.tensors.push_back({"blocks.0.a.deq_scale", "W8A8_DYNAMIC",
                              float_tensor(DType::kF32, {6}, std::vector<float>(6, 1))});
       },
       ErrorCode::kInput,
       {"a label on a tensor it cannot describe", "tensor blocks.0.a.deq_scale"}},
      {"no such linear",
       [](auto& f) {
         std::mt19937_64 r(1);
         for (NamedTensor& t :
              make_random_layer(*find_algorithm("W8A16"), "blocks.0.c", {.dims = {4, 32}}, r))
           f.tensors.push_back(t);
       },
       ErrorCode::kStrict,
       {"no linear of the model answers", "layer blocks.0.c", "did you mean", "blocks.0.a"}},
      {"smoothing missing",
       [](auto& f) { f.erase("blocks.0.b.div.mul_scale"); },  // case 15
       ErrorCode::kStrict,
       {"layer blocks.0.b.linear", "blocks.0.b.div.mul_scale is missing from the weight file"}},
      {"attention",
       [](auto& f) { f.extra_labels = {{"blocks.0.attn.quant_type", "FP8_DYNAMIC"}}; },
       ErrorCode::kUnsupported,
       {"quantized attention is not served", "layer blocks.0.attn", "got FP8_DYNAMIC"}},
  };
}

TEST(Quantize, EveryCorruptionIsNamedAndLeavesTheModelAsItWas) {
  Model model;
  std::vector<Tensor> before;
  for (size_t i = 0; i < 3; ++i) before.push_back(model.output(i));
  for (const Corruption& corruption : corruptions()) {
    SCOPED_TRACE(corruption.name);
    TestFolder folder;
    QuantizedFixture files = fixture();
    corruption.corrupt(files);
    const std::filesystem::path descriptor = files.write(folder.path());
    const Error error = error_of([&] { quantize(model.map, descriptor, {}, context()); });
    EXPECT_EQ(error.code(), corruption.code) << error.what();
    for (const std::string& word : corruption.words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "'" << word << "' is not in: " << error.what();
    }
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(model.linears[i].algorithm(), "FLOAT");
      EXPECT_TRUE(same_bytes(model.output(i), before[i]));
    }
  }
}

TEST(Quantize, FilesOfTwoRunsAreRefused) {
  TestFolder one, two;
  Model model;
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
  Model model;
  const std::filesystem::path file = fixture().write(folder.path());
  const std::string text = file_text(file);
  for (const size_t length : {size_t{0}, size_t{1}, text.size() / 2, text.size() - 3}) {
    write_text(file, text.substr(0, length));
    const Error error = error_of([&] { quantize(model.map, file, {}, context()); });
    EXPECT_EQ(error.code(), ErrorCode::kInput) << length;
    EXPECT_NE(std::string(error.what()).find(file.filename().string()), std::string::npos);
  }
}

TEST(Quantize, ALabelThatIsNoStringIsRefused) {  // formats.md 7, case 6
  TestFolder folder;
  Model model;
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
  Model model;
  QuantizedFixture files = fixture();
  relabel(files, "blocks.0.b", "W4A16");
  files.extra_labels = {{"blocks.9.attn.quant_type", "FP8_DYNAMIC"}, {"blocks.7.x", "W8A16"}};
  const Report report = quantize(model.map, files.write(folder.path()),
                                 {.strictness = Strictness::kLenient}, context());
  EXPECT_EQ(report.quantized(), 1);
  EXPECT_EQ(report.unmatched.size(), 3u);
  EXPECT_EQ(model.linears[0].algorithm(), "W8A8_DYNAMIC");
  EXPECT_EQ(model.linears[1].algorithm(), "FLOAT");
}

TEST(Quantize, LenientDoesNotForgiveDamage) {
  TestFolder folder;
  Model model;
  QuantizedFixture files = fixture();
  files.erase("blocks.0.a.weight_scale");
  const std::filesystem::path file = files.write(folder.path());
  EXPECT_EQ(error_of([&] {
              quantize(model.map, file, {.strictness = Strictness::kLenient}, context());
            }).code(),
            ErrorCode::kInput);
  EXPECT_EQ(model.linears[1].algorithm(), "FLOAT");
}

// --- labels, formats.md 7, case 6 ----------------------------------------------------------------

TEST(Quantize, LabelsInAnyCaseAndOnTheLayerAsAWhole) {
  TestFolder folder;
  Model model;
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
  Model model;
  QuantizedFixture files = fixture();
  files.extra_labels = {{"proj_out", "W8A8_DYNAMIC"}};
  quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_EQ(model.linears[2].algorithm(), "FLOAT");
}

TEST(Quantize, OnlyTheWeightNeedsALabel) {
  TestFolder folder;
  Model model;
  const QuantizedFixture files = fixture();
  const std::filesystem::path file = files.write(folder.path());
  Descriptor d;
  d.model_quant_type = "W8A8_DYNAMIC";
  d.labels = {{"blocks.0.a.weight", "W8A8_DYNAMIC"}};
  write_descriptor(file, d);
  EXPECT_EQ(quantize(model.map, file, {}, context()).quantized(), 1);
}

// formats.md 7, case 14.
TEST(Quantize, AStoredBiasThatTheLayerHasNoPlaceForIsLeftAsideWithANote) {
  TestFolder folder;
  Model model;
  QuantizedFixture files = fixture();
  files.tensors.push_back({"blocks.0.b.linear.bias", "FLOAT",
                           float_tensor(DType::kF32, {5}, std::vector<float>(5, 100.0f))});
  const Report report = quantize(model.map, files.write(folder.path()), {}, context());
  EXPECT_FALSE(model.linears[1].has_bias());
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("blocks.0.b: the file's bias is left aside"), std::string::npos);
}

// formats.md 7, case 27.
TEST(Quantize, ScalesOfAnyShapeAndTypeGiveTheSameBits) {
  std::vector<Tensor> outputs;
  for (const Shape& shape : {Shape{6, 1}, Shape{6}, Shape{1, 6}}) {
    TestFolder folder;
    Model model;
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

TEST(Quantize, TwoLinearsOfOneNameAreRefused) {
  TestFolder folder;
  Model model;
  model.map.linears.push_back(&model.linears[0]);
  Linear twin = model.linears[0];
  model.map.linears[2] = &twin;
  EXPECT_EQ(
      error_of([&] { quantize(model.map, fixture().write(folder.path()), {}, context()); }).code(),
      ErrorCode::kUsage);
}

}  // namespace
}  // namespace mezzotint
