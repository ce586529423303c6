// Conformance cases 20 to 29 but for 28: what integer files compute.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "conformance/fixture.h"
#include "numerics/int8.h"
#include "quant/coding.h"

namespace mezzotint::conformance {
namespace {

TEST(Conformance, Case20_StaticForward) {
  TestFolder folder;
  OneLinear model(3, 8, true);
  quantize(model.map, write_layer(folder, "W8A8", static_layer()), {}, context());
  const std::vector<float> y =
      outputs(model.linear, float_tensor(DType::kF32, {1, 8}, std::vector<float>(8, 0.1f)));
  const std::vector<float> expected = {.518f, -.248f, .015f};
  for (size_t n = 0; n < 3; ++n) EXPECT_NEAR(y[n], expected[n], 1e-7f);
}

// 6.25 / 0.1 - 5 = 57.5, whose code is 58; by bf16(0.1) it is 57.44. Row 0 sums to 18.
TEST(ConformanceUpstream, Case20_UpstreamRoundsInputScalesToBf16AndF16OutputScalesTo19Bits) {
  TestFolder folder;
  const std::filesystem::path file = write_layer(folder, "W8A8", static_layer());
  OneLinear ours(3, 8, true);
  OneLinear theirs(3, 8, true);
  quantize(ours.map, file, {}, context());
  quantize(theirs.map, file, kUpstream, context());
  const std::vector<float> x(8, 6.25f);
  const auto y_of = [&](const OneLinear& model, DType dtype) {
    return outputs(model.linear, float_tensor(dtype, {1, 8}, x))[0];
  };
  const auto rounded = [](DType dtype, float y) {
    return floats_of(float_tensor(dtype, {1}, {y}))[0];
  };
  EXPECT_EQ(y_of(ours, DType::kBF16), rounded(DType::kBF16, (58 * 18 + 590) * .001f));
  EXPECT_EQ(y_of(theirs, DType::kBF16), rounded(DType::kBF16, (57 * 18 + 590) * .001f));
  EXPECT_EQ(y_of(theirs, DType::kF32), (58 * 18 + 590) * .001f);
  const float truncated = std::bit_cast<float>(0x3a830000u);
  EXPECT_EQ(y_of(theirs, DType::kF16), rounded(DType::kF16, (58 * 18 + 590) * truncated));
  EXPECT_EQ(y_of(ours, DType::kF16), rounded(DType::kF16, (58 * 18 + 590) * .001f));
  EXPECT_NE(y_of(ours, DType::kF16), y_of(theirs, DType::kF16));
  EXPECT_TRUE(theirs.linear.kernel(1).ends_with("/reference"));
}

TEST(ConformanceEitherWay, Case21_AnI64HoldsTheBitsOfTheScale) {
  LayerTensors floats = static_layer();
  floats[4].tensor = float_tensor(DType::kF32, {3}, {1.0f, .001f, .001f});
  LayerTensors integers = floats;
  integers[4].tensor = tensor_of<int64_t>({1065353216, 981668463, 981668463}, {3});
  TestFolder one, two;
  const std::filesystem::path plain = write_layer(one, "W8A8", floats);
  const std::filesystem::path file = write_layer(two, "W8A8", integers);
  for (const QuantizeOptions& options : kEitherWay) {
    OneLinear a(3, 8, true);
    OneLinear b(3, 8, true);
    quantize(a.map, plain, options, context());
    quantize(b.map, file, options, context());
    EXPECT_EQ(outputs(a.linear, identity(8)), outputs(b.linear, identity(8)));
  }

  const QuantizedFolder folder = open_quantized(file);
  const LinearParams params = read_layer(folder, folder.layers.at(0));
  EXPECT_EQ(floats_of(params.deq_scale), (std::vector<float>{1.0f, .001f, .001f}));
  const Tensor encoded = Tensor::allocate(DType::kI64, {3});
  for (const ParamSpec& spec : folder.layers.at(0).contract->params) {
    if (spec.suffix == "deq_scale") encode_param(spec, params.deq_scale, {.n = 3, .k = 8}, encoded);
  }
  EXPECT_TRUE(same_bytes(encoded, integers[4].tensor));
}

LayerTensors dynamic_layer(const Tensor& bias) {
  LayerTensors tensors = {
      {"0.weight", "W8A8_DYNAMIC", tensor_of<int8_t>({10, 20, -30, 40, -127, 0, 127, 1}, {2, 4})},
      {"0.weight_scale", "W8A8_DYNAMIC", float_tensor(DType::kF32, {2, 1}, {.02f, .01f})}};
  if (!bias.empty()) tensors.push_back({"0.bias", "FLOAT", bias});
  return tensors;
}

TEST(Conformance, Case22_DynamicForward) {
  const std::vector<float> x = {1, -3, .5f, 4};
  const std::vector<int> codes = {32, -95, 16, 127};
  for (size_t k = 0; k < 4; ++k) EXPECT_EQ(int8_code(x[k], int8_token_scale(4)), codes[k]);
  TestFolder folder;
  OneLinear model(2, 4, false);
  quantize(model.map, write_layer(folder, "W8A8_DYNAMIC", dynamic_layer({})), {}, context());
  const std::vector<float> expected = {1.9023622f, -.6000000f};
  const std::vector<float> y = outputs(model.linear, float_tensor(DType::kF32, {1, 4}, x));
  const std::vector<float> bf16 = outputs(model.linear, float_tensor(DType::kBF16, {1, 4}, x));
  for (size_t n = 0; n < 2; ++n) {
    EXPECT_NEAR(y[n], expected[n], 1e-6f);
    EXPECT_NEAR(bf16[n], expected[n], 0x1p-7f * std::abs(expected[n]));  // an ulp
  }
}

TEST(ConformanceUpstream, Case22_UpstreamHoldsWeightScalesInTheModelsDtype) {
  TestFolder folder;
  OneLinear model(2, 4, false);
  quantize(model.map, write_layer(folder, "W8A8_DYNAMIC", dynamic_layer({})), kUpstream, context());
  const std::vector<float> x = {1, -3, .5f, 4};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const float scale = floats_of(float_tensor(dtype, {1}, {.02f}))[0];
    const float y = int8_output(3020, scale, int8_token_scale(4), 0);
    EXPECT_EQ(outputs(model.linear, float_tensor(dtype, {1, 4}, x))[0],
              floats_of(float_tensor(dtype, {1}, {y}))[0]);
  }
}

TEST(ConformanceEitherWay, Case23_ARowOfZerosGivesTheBias) {
  const Tensor bias = float_tensor(DType::kF32, {2}, {.75f, -2});
  for (const QuantizeOptions& options : kEitherWay) {
    TestFolder folder;
    OneLinear model(2, 4, true);
    quantize(model.map, write_layer(folder, "W8A8_DYNAMIC", dynamic_layer(bias)), options,
             context());
    EXPECT_EQ(outputs(model.linear, float_tensor(DType::kF32, {1, 4}, {0, 0, 0, 0})),
              (std::vector<float>{.75f, -2}));
  }
}

LayerTensors asymmetric_layer() {
  return {{"0.weight", "W8A16", tensor_of<int8_t>({-128, 0, 127}, {1, 3})},
          {"0.weight_scale", "W8A16", float_tensor(DType::kF32, {1, 1}, {.5f})},
          {"0.weight_offset", "W8A16", float_tensor(DType::kF32, {1, 1}, {-28})}};
}

TEST(Conformance, Case24_AnOffsetIsApplied) {
  TestFolder folder;
  OneLinear model(1, 3, false);
  const std::filesystem::path file = write_layer(folder, "W8A16", asymmetric_layer());
  quantize(model.map, file, {}, context());
  const std::vector<float> expected = {-50, 14, 77.5f};
  EXPECT_EQ(outputs(model.linear, identity(3)), expected);
  dequantize(file, folder / "float.safetensors", {}, context());
  const WeightStore back = WeightStore::open_file(folder / "float.safetensors");
  EXPECT_EQ(floats_of(back.read("0.weight")), expected);
}

TEST(ConformanceUpstream, Case24_UpstreamIgnoresOffsetsAndRoundsWeights) {
  TestFolder folder;
  OneLinear model(1, 3, false);
  const std::filesystem::path file = write_layer(folder, "W8A16", asymmetric_layer());
  const Report report = quantize(model.map, file, kUpstream, context());
  EXPECT_EQ(outputs(model.linear, identity(3)), (std::vector<float>{-64, 0, 63.5f}));
  EXPECT_TRUE(has_text(report.notes, "0: left out, as upstream does: weight_offset"));

  // 127 and -126 times 0.1 in bf16 are 12.6875 and -12.625.
  TestFolder second;
  const LayerTensors tensors = {
      {"0.weight", "W8A16", tensor_of<int8_t>({127, -126}, {1, 2})},
      {"0.weight_scale", "W8A16", float_tensor(DType::kF32, {1, 1}, {.1f})}};
  const std::filesystem::path rounding = write_layer(second, "W8A16", tensors);
  OneLinear ours(1, 2, false);
  OneLinear theirs(1, 2, false);
  quantize(ours.map, rounding, {}, context());
  quantize(theirs.map, rounding, kUpstream, context());
  const Tensor ones = float_tensor(DType::kBF16, {1, 2}, {1, 1});
  EXPECT_EQ(outputs(theirs.linear, ones), std::vector<float>{.0625f});
  EXPECT_NEAR(outputs(ours.linear, ones)[0], .1f, 2e-4f);
}

std::vector<float> int4_outputs(DType dtype, const Shape& shape, const std::vector<uint8_t>& bytes,
                                const QuantizeOptions& options) {
  TestFolder folder;
  OneLinear model(2, 8, false);
  const LayerTensors tensors = {
      {"0.weight", "W4A16", code_tensor(dtype, shape, bytes)},
      {"0.weight_scale", "W4A16", float_tensor(DType::kF32, {2, 1}, {1, 1})}};
  quantize(model.map, write_layer(folder, "W4A16", tensors), options, context());
  return outputs(model.linear, identity(8));
}

TEST(ConformanceEitherWay, Case25_ThreeFormsOfInt4HoldTheSameWeights) {
  std::vector<float> expected;  // of y[k,n]: n = 0 holds -8..-1, n = 1 holds 0..7
  std::vector<uint8_t> unpacked(16);
  for (int k = 0; k < 8; ++k) {
    expected.push_back(static_cast<float>(k - 8));
    expected.push_back(static_cast<float>(k));
    unpacked[static_cast<size_t>(k)] = static_cast<uint8_t>(k - 8);
    unpacked[static_cast<size_t>(8 + k)] = static_cast<uint8_t>(k);
  }
  const std::vector<uint8_t> along_k = {0x98, 0xBA, 0xDC, 0xFE, 0x10, 0x32, 0x54, 0x76};
  const std::vector<uint8_t> along_n = {0x08, 0x19, 0x2A, 0x3B, 0x4C, 0x5D, 0x6E, 0x7F};
  for (const QuantizeOptions& options : kEitherWay) {
    EXPECT_EQ(int4_outputs(DType::kI8, {2, 8}, unpacked, options), expected);
    EXPECT_EQ(int4_outputs(DType::kU8, {2, 4}, along_k, options), expected);
    EXPECT_EQ(int4_outputs(DType::kI8, {2, 4}, along_k, options), expected);
    EXPECT_EQ(int4_outputs(DType::kI8, {1, 8}, along_n, options), expected);
  }
}

TEST(ConformanceEitherWay, Case26_AGroupOfColumnsHasItsScale) {
  const std::vector<float> scales = {1, 2, 4, 8, 16, 32};
  const LayerTensors tensors = {
      {"0.weight", "W4A16",
       code_tensor(DType::kI8, {3, 128}, std::vector<uint8_t>(size_t{3} * 128, 1))},
      {"0.weight_scale", "W4A16", float_tensor(DType::kF32, {3, 2}, scales)}};
  for (const QuantizeOptions& options : kEitherWay) {
    TestFolder folder;
    OneLinear model(3, 128, false);
    quantize(model.map, write_layer(folder, "W4A16", tensors), options, context());
    const std::vector<float> y = outputs(model.linear, identity(128));
    EXPECT_EQ(y[70 * 3 + 1], scales[1 * 2 + 1]);
    for (size_t k = 0; k < 128; ++k) {
      for (size_t n = 0; n < 3; ++n) EXPECT_EQ(y[k * 3 + n], scales[n * 2 + k / 64]);
    }
  }
}

void expect_three_shapes(const QuantizeOptions& options) {
  for (const char* algorithm : {"W8A8_DYNAMIC", "W8A16", "W4A16", "W4A4_DYNAMIC"}) {
    LayerTensors tensors =
        random_layer_of(algorithm, "0", {.dims = {.n = 6, .k = 32}, .bias = false});
    std::erase_if(tensors, [](const NamedTensor& t) { return t.name == "0.weight_offset"; });
    std::vector<std::vector<float>> y;
    for (const Shape& shape : {Shape{6}, Shape{6, 1}, Shape{1, 6}}) {
      for (NamedTensor& t : tensors) {
        if (t.name != "0.weight_scale") continue;
        t.tensor = float_tensor(DType::kF32, shape, {.01f, .02f, .03f, .04f, .05f, .06f});
      }
      TestFolder folder;
      OneLinear model(6, 32, false);
      quantize(model.map, write_layer(folder, algorithm, tensors), options, context());
      y.push_back(outputs(model.linear, identity(32)));
    }
    EXPECT_EQ(y[0], y[1]) << algorithm;
    EXPECT_EQ(y[0], y[2]) << algorithm;
  }
}

TEST(ConformanceEitherWay, Case27_ScalesStandInThreeShapes) {
  for (const QuantizeOptions& options : kEitherWay) expect_three_shapes(options);
}

// --- case 29 -------------------------------------------------------------------------------------

std::vector<float> w4a4_at_zero(const QuantizeOptions& options) {
  TestFolder folder;
  OneLinear model(6, 32, true);
  LayerTensors tensors =
      random_layer_of("W4A4_DYNAMIC", "0", {.dims = {.n = 6, .k = 32}, .bias = true});
  for (NamedTensor& t : tensors) {
    if (t.name == "0.bias") t.tensor = float_tensor(DType::kF32, {6}, {1, 2, 3, 4, 5, 6});
  }
  quantize(model.map, write_layer(folder, "W4A4_DYNAMIC", tensors), options, context());
  return outputs(model.linear, float_tensor(DType::kF32, {1, 32}, std::vector<float>(32)));
}

TEST(Conformance, Case29_W4A4DynamicAddsItsBias) {
  EXPECT_EQ(w4a4_at_zero({}), (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

TEST(ConformanceUpstream, Case29_UpstreamDropsIt) {
  EXPECT_EQ(w4a4_at_zero(kUpstream), std::vector<float>(6, 0.0f));
}

}  // namespace
}  // namespace mezzotint::conformance
