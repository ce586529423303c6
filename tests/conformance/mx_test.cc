// Conformance cases 33 to 39: blocks of 32 with a power of two.
#include <gtest/gtest.h>

#include <array>

#include "conformance/mx_fixture.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/mx.h"
#include "numerics/nibbles.h"

namespace mezzotint::conformance {
namespace {

uint8_t scale_byte(float amax, Element element, MxScaleRule rule) {
  return mx_scale_byte(amax, element, rule, 0);
}

TEST(Conformance, Case33_ScalesAndCodesOfMxfp8) {
  const std::vector<std::pair<float, int>> bytes = {
      {0, 0}, {1, 119}, {448, 127}, {450, 127}, {3e38f, 246}};
  for (const auto& [amax, byte] : bytes) {
    EXPECT_EQ(scale_byte(amax, Element::kE4M3, MxScaleRule::kFloor), byte) << amax;
  }
  const std::vector<float> row =
      sparse_row(64, {{0, 1}, {1, -.3f}, {2, .001f}, {3, 1.74609375f}, {32, -3}});
  std::array<uint8_t, 64> codes{};
  for (const Rounding rounding : {Rounding::kHalfEven, Rounding::kHalfAway}) {
    EXPECT_EQ(mx_quantize_block(row.data(), 32, Element::kE4M3, MxScaleRule::kFloor, rounding,
                                codes.data()),
              119);
    EXPECT_EQ(mx_quantize_block(row.data() + 32, 32, Element::kE4M3, MxScaleRule::kFloor, rounding,
                                codes.data() + 32),
              120);
    EXPECT_EQ((std::vector<uint8_t>{codes[0], codes[1], codes[2], codes[3], codes[32]}),
              (std::vector<uint8_t>{0x78, 0xEA, 0x28, 0x7E, 0xFC}));
  }
  // We write the best of three scales by squared error: never worse than these.
  const LayerTensors ours = written("W8A8_MXFP8", row);
  LayerTensors floor_rule = ours;
  floor_rule[0].tensor = code_tensor(DType::kF8E4M3, {1, 64}, {codes.begin(), codes.end()});
  floor_rule[1].tensor = code_tensor(DType::kU8, {1, 2}, {119, 120});
  const double best = relative_error(dequantized("W8A8_MXFP8", ours), row);
  const double by_floor = relative_error(dequantized("W8A8_MXFP8", floor_rule), row);
  EXPECT_LE(best, by_floor);
  EXPECT_LT(by_floor, 0.01);
  EXPECT_GT(by_floor, 0);
}

TEST(ConformanceUpstream, Case33_UpstreamWritesTheFloorRule) {
  const std::vector<float> row =
      sparse_row(64, {{0, 1}, {1, -.3f}, {2, .001f}, {3, 1.74609375f}, {32, -3}});
  const LayerTensors tensors = written("W8A8_MXFP8", row, Compat::kUpstream);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), (std::vector<uint8_t>{119, 120}));
  std::vector<uint8_t> codes(64);
  codes = {0x78, 0xEA, 0x28, 0x7E};
  codes.resize(64);
  codes[32] = 0xFC;
  EXPECT_EQ(bytes_of(named(tensors, "0.weight")), codes);
}

// Behind 448, whose block has the scale 1: 17, 19, 1.0625, -1.0625 and 2^-10 are ties.
std::vector<float> written_ties(Compat compat) {
  const std::vector<float> row =
      sparse_row(32, {{0, 448}, {1, 17}, {2, 19}, {3, 1.0625f}, {4, -1.0625f}, {5, 0x1p-10f}});
  const LayerTensors tensors = written("W8A8_MXFP8", row, compat);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), (std::vector<uint8_t>{127}));
  std::vector<float> values = dequantized("W8A8_MXFP8", tensors);
  values.resize(6);
  return values;
}

TEST(Conformance, Case34_TiesOfMxfp8GoToTheEvenCode) {
  EXPECT_EQ(written_ties(Compat::kNone), (std::vector<float>{448, 16, 20, 1, -1, 0}));
}

TEST(ConformanceUpstream, Case34_UpstreamRoundsTiesOfMxfp8AwayFromZero) {
  EXPECT_EQ(written_ties(Compat::kUpstream),
            (std::vector<float>{448, 18, 20, 1.125f, -1.125f, 0x1p-9f}));
}

struct Mxfp4Byte {
  float amax;
  int upstream;
  int floor;
};
constexpr Mxfp4Byte kMxfp4Bytes[] = {{0, 105, 0},       {.875f, 125, 124}, {1, 125, 125},
                                     {1.75f, 126, 125}, {3.5f, 127, 126},  {6, 127, 127},
                                     {7, 128, 127},     {12, 128, 128}};

int written_byte(float amax, Compat compat) {
  const LayerTensors tensors = written("W4A4_MXFP4", sparse_row(32, {{0, amax}}), compat);
  return bytes_of(named(tensors, "0.weight_scale")).at(0);
}

// Of a block of one value, no exponent is better than that of the floor rule.
TEST(Conformance, Case35_ScalesOfMxfp4AreTheBestOfThree) {
  for (const auto& [amax, upstream, floor] : kMxfp4Bytes) {
    EXPECT_EQ(scale_byte(amax, Element::kE2M1, MxScaleRule::kFloor), floor) << amax;
    EXPECT_EQ(written_byte(amax, Compat::kNone), floor) << amax;
  }
}

TEST(ConformanceUpstream, Case35_UpstreamRaisesTheScaleOfMxfp4) {
  for (const auto& [amax, upstream, floor] : kMxfp4Bytes) {
    EXPECT_EQ(scale_byte(amax, Element::kE2M1, MxScaleRule::kUpstreamFp4), upstream) << amax;
    EXPECT_EQ(written_byte(amax, Compat::kUpstream), upstream) << amax;
  }
}

TEST(ConformanceEitherWay, Case36_AnExactRowOfMxfp4) {
  const std::vector<float> row =
      sparse_row(32, {{0, 6}, {1, -3}, {2, 1.5f}, {3, .5f}, {5, -.5f}, {6, 2}, {7, -4}});
  std::vector<uint8_t> codes(16);
  codes = {0xD7, 0x13, 0x90, 0xE4};
  codes.resize(16);
  for (const QuantizeOptions& options : kEitherWay) {
    const LayerTensors tensors = written("W4A4_MXFP4", row, options.compat);
    EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), (std::vector<uint8_t>{127}));
    EXPECT_EQ(bytes_of(named(tensors, "0.weight")), codes);
    EXPECT_EQ(dequantized("W4A4_MXFP4", tensors), row);
  }
}

std::vector<uint8_t> packed_e2m1(const std::vector<float>& values) {
  std::vector<uint8_t> codes;
  for (const float v : values) codes.push_back(e2m1_from_float(v, Rounding::kHalfEven));
  std::vector<uint8_t> packed(codes.size() / 2);
  pack_nibbles_along_k(codes.data(), static_cast<int64_t>(codes.size()), packed.data());
  return packed;
}

// Outputs of a layer of 6 rows on the identity, whose values are codes of e2m1.
std::vector<float> mxfp4_outputs(const LayerTensors& tensors, const QuantizeOptions& options) {
  const TestFolder folder;
  OneLinear model(6, 64, false);
  quantize(model.map, write_layer(folder, "W4A4_MXFP4", tensors), options, context());
  return outputs(model.linear, identity(64));
}

TEST(ConformanceEitherWay, Case37_BothFormsOfFp4HoldTheSameWeights) {
  EXPECT_EQ(packed_e2m1({.5f, -1, 6, -6, 0, 1.5f, 3, 4}),
            (std::vector<uint8_t>{0xA1, 0xF7, 0x30, 0x65}));
  EXPECT_EQ(packed_e2m1({-0.0f, -.5f, 2, -2, -3, -4, 1, -1.5f}),
            (std::vector<uint8_t>{0x98, 0xC4, 0xED, 0xB2}));

  std::mt19937_64 random(37);
  std::vector<uint8_t> packed(size_t{6} * 32);
  for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random());
  std::vector<uint8_t> unpacked;
  for (const uint8_t byte : packed) {
    for (const uint8_t code : {low_nibble(byte), high_nibble(byte)}) {
      unpacked.push_back(e4m3_from_float(e2m1_to_float(code), Rounding::kHalfEven));
    }
  }
  const NamedTensor scale = {"0.weight_scale", "W4A4_MXFP4",
                             code_tensor(DType::kU8, {6, 2}, std::vector<uint8_t>(12, 127))};
  const LayerTensors a = {{"0.weight", "W4A4_MXFP4", code_tensor(DType::kU8, {6, 32}, packed)},
                          scale};
  const LayerTensors b = {
      {"0.weight", "W4A4_MXFP4", code_tensor(DType::kF8E4M3, {6, 64}, unpacked)}, scale};
  LayerTensors wrong = b;
  unpacked[0] = 0x39;  // 1.125: no value of e2m1
  wrong[0].tensor = code_tensor(DType::kF8E4M3, {6, 64}, unpacked);
  EXPECT_EQ(dequantized("W4A4_MXFP4", a), dequantized("W4A4_MXFP4", b));
  for (const QuantizeOptions& options : kEitherWay) {
    EXPECT_EQ(mxfp4_outputs(a, options), mxfp4_outputs(b, options));
    EXPECT_EQ(error_of([&] { mxfp4_outputs(wrong, options); }).details().tensor, "0.weight");
  }
}

// Packing would hide it: an odd K is written unpacked. Upstream's exporter refuses it.
TEST(ConformanceEitherWay, Case37_AnOddKIsWrittenUnpacked) {
  const std::vector<float> ones(33, 1.0f);
  for (const QuantizeOptions& options : kEitherWay) {
    const LayerTensors odd = written("W4A4_MXFP4", ones, options.compat);
    EXPECT_EQ(named(odd, "0.weight").dtype(), DType::kF8E4M3);
    EXPECT_EQ(named(odd, "0.weight").shape(), (Shape{1, 33}));
    EXPECT_EQ(dequantized("W4A4_MXFP4", odd), ones);
  }
}

// y against x w^T in double, x and w through the MX blocks.
double miss_of_matmul(const std::string& algorithm, Element element, int64_t k, bool bias,
                      const QuantizeOptions& options) {
  constexpr int64_t kN = 5;
  constexpr int64_t kRows = 3;
  TestFolder folder;
  OneLinear model(kN, k, bias);
  const LayerTensors tensors =
      random_layer_of(algorithm, "0", {.dims = {.n = kN, .k = k}, .bias = bias});
  quantize(model.map, write_layer(folder, algorithm, tensors), options, context());
  const std::vector<float> w = dequantized(algorithm, tensors);
  std::mt19937_64 random(38);
  const Tensor x = normal_tensor(DType::kF32, {kRows, k}, random);
  std::vector<float> expected;
  for (int64_t m = 0; m < kRows; ++m) {
    std::vector<double> row;
    for (int64_t first = 0; first < k; first += kMxBlock) {
      const int64_t count = std::min(kMxBlock, k - first);
      std::array<uint8_t, kMxBlock> codes{};
      const uint8_t byte =
          mx_quantize_block(x.data<float>() + m * k + first, count, element, MxScaleRule::kFloor,
                            Rounding::kHalfEven, codes.data());
      for (int64_t i = 0; i < count; ++i) {
        row.push_back(mx_value(codes[static_cast<size_t>(i)], byte, element));
      }
    }
    for (size_t n = 0; n < kN; ++n) {
      double sum = bias ? floats_of(named(tensors, "0.bias"))[n] : 0.0;
      for (size_t i = 0; i < row.size(); ++i) sum += row[i] * w[n * row.size() + i];
      expected.push_back(static_cast<float>(sum));
    }
  }
  return relative_error(outputs(model.linear, x), expected);
}

TEST(ConformanceEitherWay, Case38_AnOddNumberOfBlocksLoads) {
  for (const QuantizeOptions& options : kEitherWay) {
    for (const int64_t k : {96, 32, 40, 64}) {
      EXPECT_LT(miss_of_matmul("W8A8_MXFP8", Element::kE4M3, k, true, options), 1e-6) << k;
      EXPECT_LT(miss_of_matmul("W4A4_MXFP4", Element::kE2M1, k, true, options), 1e-6) << k;
    }
    EXPECT_GT(miss_of_matmul("W4A4_MXFP4", Element::kE4M3, 96, true, options), 1e-3) << "another x";
  }
}

TEST(ConformanceEitherWay, Case39_MxLayersNeedNoBias) {
  for (const QuantizeOptions& options : kEitherWay) {
    EXPECT_LT(miss_of_matmul("W8A8_MXFP8", Element::kE4M3, 64, false, options), 1e-6);
    EXPECT_LT(miss_of_matmul("W4A4_MXFP4", Element::kE2M1, 64, false, options), 1e-6);
  }
}

}  // namespace
}  // namespace mezzotint::conformance
