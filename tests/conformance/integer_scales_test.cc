// Conformance cases 16 to 19: scales, offsets and codes of integer files.
#include <gtest/gtest.h>

#include <cmath>

#include "conformance/fixture.h"
#include "numerics/affine.h"
#include "numerics/bf16.h"
#include "quant/write_layer.h"
#include "solve/static_range.h"

namespace mezzotint::conformance {
namespace {

struct Range {
  float min;
  float max;
};
constexpr Range kRanges[] = {{-1, 2}, {0.5f, 3}, {0, 0}, {-3, -1}};

// weight_scale of four rows of these ranges, and the dtype of the codes.
struct WrittenScales {
  std::vector<float> scale;
  DType codes;
};
WrittenScales written_scales(const char* algorithm, Compat compat) {
  constexpr int64_t kK = 32;
  std::vector<float> rows;
  for (const Range& range : kRanges) {
    rows.insert(rows.end(), kK, range.min);
    rows.back() = range.max;
  }
  const FloatLayer layer = {
      .name = "0", .weight = float_tensor(DType::kF32, {4, kK}, rows), .bias = {}};
  const WriteOptions options = {.group_size = kK, .compat = compat};
  const LayerTensors tensors =
      write_layer_params(*find_algorithm(algorithm), layer, options, context());
  return {floats_of(tensors.at(1).tensor), tensors.at(0).tensor.dtype()};
}

void expect_near(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], 1e-6f * expected[i]) << "range " << i;
  }
}

// The rule of upstream's exporter.
void expect_params(int bits, bool symmetric, const std::vector<float>& scales,
                   const std::vector<float>& offsets) {
  for (size_t i = 0; i < std::size(kRanges); ++i) {
    const AffineParams got = affine_params(kRanges[i].min, kRanges[i].max, bits, symmetric);
    EXPECT_NEAR(got.scale, scales[i], 1e-6f * scales[i]) << bits << " bits, range " << i;
    EXPECT_EQ(got.offset, offsets[i]) << bits << " bits, range " << i;
  }
}

// amax / 127 as a bf16; a row of zeros has the scale 1.
TEST(Conformance, Case16_SymmetricScalesAreBf16) {
  const std::vector<float> scales = {0x1.02p-6f, 0x1.84p-6f, 1, 0x1.84p-6f};
  EXPECT_EQ(written_scales("W8A16", Compat::kNone).scale, scales);
  EXPECT_EQ(written_scales("W8A8_DYNAMIC", Compat::kNone).scale, scales);
}

TEST(ConformanceUpstream, Case16_UpstreamDoesNotRoundSymmetricScales) {
  const std::vector<float> scales = {.01574803f, .02362205f, 1.1920929e-07f, .02362205f};
  expect_params(8, true, scales, {0, 0, 0, 0});
  expect_near(written_scales("W8A16", Compat::kUpstream).scale, scales);
  expect_near(written_scales("W8A8_DYNAMIC", Compat::kUpstream).scale, scales);
}

// Of activations: bf16, upwards; int4 weights as those of case 16, two codes a byte.
TEST(Conformance, Case17_AsymmetricScalesAreBf16AndInt4IsPacked) {
  const std::vector<float> offsets = {-43, -128, -128, 127};
  for (size_t i = 0; i < std::size(kRanges); ++i) {
    const AffineParams got = static_range(
        {.min = kRanges[i].min, .max = kRanges[i].max, .hist = {}}, RangeRule::kMinMax);
    const float exact = affine_params(kRanges[i].min, kRanges[i].max, 8, false).scale;
    EXPECT_EQ(got.scale, round_to_bf16(got.scale));
    EXPECT_GE(got.scale, exact) << "the range fits";
    EXPECT_LE(got.scale, exact * (1 + 0x1p-7f));
    EXPECT_EQ(got.offset, offsets[i]) << "range " << i;
  }
  for (const char* algorithm : {"W4A16", "W4A4_DYNAMIC"}) {
    const WrittenScales got = written_scales(algorithm, Compat::kNone);
    EXPECT_EQ(got.scale, (std::vector<float>{0x1.24p-2f, 0x1.b6p-2f, 1, 0x1.b6p-2f})) << algorithm;
    EXPECT_EQ(got.codes, DType::kU8);
  }
}

TEST(ConformanceUpstream, Case17_UpstreamWritesUnroundedScalesAndUnpackedInt4) {
  expect_params(8, false, {.01176471f, .01176471f, 1.1920929e-07f, .01176471f},
                {-43, -128, -128, 127});
  expect_params(4, false, {.2f, .2f, 1.1920929e-07f, .2f}, {-3, -8, -8, 7});
  const std::vector<float> int4 = {.2857143f, .4285714f, 1.1920929e-07f, .4285714f};
  expect_params(4, true, int4, {0, 0, 0, 0});
  for (const char* algorithm : {"W4A16", "W4A4_DYNAMIC"}) {
    const WrittenScales got = written_scales(algorithm, Compat::kUpstream);
    expect_near(got.scale, int4);
    EXPECT_EQ(got.codes, DType::kI8) << algorithm;
  }
}

// Static codes of x, then codes of a weight whose scale is 1, by either rule.
TEST(ConformanceEitherWay, Case18_CodesRoundHalfToEvenAndSaturate) {
  const std::vector<float> x = {2.5f, 3.5f, -2.5f, -200, 200};
  const std::vector<float> codes = {2, 4, -2, -128, 127};
  const LayerTensors one = {{"0.weight", "W8A8", tensor_of<int8_t>({1}, {1, 1})},
                            {"0.quant_bias", "W8A8", tensor_of<int32_t>({0}, {1})},
                            {"0.input_scale", "W8A8", float_tensor(DType::kF32, {1}, {1})},
                            {"0.input_offset", "W8A8", float_tensor(DType::kF32, {1}, {0})},
                            {"0.deq_scale", "W8A8", float_tensor(DType::kF32, {1}, {1})}};
  const FloatLayer layer = {
      .name = "0",
      .weight = float_tensor(DType::kF32, {1, 6}, {2.5f, 3.5f, -2.5f, -127, 127, .5f}),
      .bias = {}};
  for (const QuantizeOptions& options : kEitherWay) {
    const TestFolder folder;
    OneLinear model(1, 1, false);
    quantize(model.map, write_layer(folder, "W8A8", one), options, context());
    EXPECT_EQ(outputs(model.linear, float_tensor(DType::kF32, {5, 1}, x)), codes);

    const LayerTensors written =
        write_layer_params(*find_algorithm("W8A16"), layer, {.compat = options.compat}, context());
    const int8_t* w = written.at(0).tensor.data<int8_t>();
    EXPECT_EQ(std::vector<int>(w, w + 6), (std::vector<int>{2, 4, -2, -127, 127, 0}));
  }
}

// Static scales need statistics: nothing is written under the label without them.
TEST(ConformanceEitherWay, Case19_StaticLayersAreNotWrittenWithoutStatistics) {
  const FloatLayer layer = {.name = "0",
                            .weight = float_tensor(DType::kF32, {1, 32}, std::vector<float>(32, 1)),
                            .bias = {}};
  for (const char* algorithm : {"W8A8", "W8A8_TIMESTEP", "W8A8_PER_TENSOR", "W8A16_GPTQ"}) {
    for (const QuantizeOptions& options : kEitherWay) {
      const Error error = error_of([&] {
        write_layer_params(*find_algorithm(algorithm), layer, {.compat = options.compat},
                           context());
      });
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("needs statistics: mezzotint collect"),
                std::string::npos);
    }
  }
}

// With them: deq_scale = input_scale * weight_scale, quant_bias = rne(bias / deq_scale - offset *
// sum of the codes).
TEST(ConformanceEitherWay, Case19_StaticScalesAndBiasesFollowFromThoseOfTheWeight) {
  for (const bool bias : {true, false}) {
    LinearParams params;
    params.plan.n = 3;
    params.plan.k = 8;
    params.codes = static_layer()[0].tensor;
    params.weight_scale = float_tensor(DType::kF32, {3}, {.01f, .02f, .03f});
    if (bias) params.bias = static_layer()[5].tensor;
    make_static({{.scale = .1f, .offset = -5}}, params);
    EXPECT_EQ(params.input_scale.shape(), Shape{1});
    EXPECT_EQ(params.input_offset.shape(), Shape{1});
    for (size_t n = 0; n < 3; ++n) {
      EXPECT_FLOAT_EQ(floats_of(params.deq_scale)[n], 0.001f * static_cast<float>(n + 1));
    }
    const int32_t* sums = params.quant_bias.data<int32_t>();
    EXPECT_EQ(std::vector<int32_t>(sums, sums + 3),
              bias ? (std::vector<int32_t>{590, -120, 25}) : (std::vector<int32_t>{90, 5, 25}));

    LayerTensors file = static_layer();
    file[1].tensor = tensor_of<int32_t>({sums[0], sums[1], sums[2]}, {3});
    if (!bias) file.pop_back();
    const std::vector<float> expected =
        bias ? std::vector<float>{.518f, -.248f, .015f} : std::vector<float>{.018f, .002f, .015f};
    for (const QuantizeOptions& options : kEitherWay) {
      const TestFolder folder;
      OneLinear model(3, 8, bias);
      quantize(model.map, write_layer(folder, "W8A8", file), options, context());
      const std::vector<float> y =
          outputs(model.linear, float_tensor(DType::kF32, {1, 8}, std::vector<float>(8, 0.1f)));
      for (size_t n = 0; n < 3; ++n) EXPECT_NEAR(y[n], expected[n], 1e-7f);
    }
  }
}

}  // namespace
}  // namespace mezzotint::conformance
