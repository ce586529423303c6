// Conformance cases 33 to 42: blocks of 32 with a power of two, and what stands on them.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <span>

#include "conformance/fixture.h"
#include "kernels/registry.h"
#include "numerics/bf16.h"
#include "numerics/dual_level.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/mx.h"
#include "numerics/nibbles.h"

namespace mezzotint::conformance {
namespace {

constexpr const char* kDual = "W4A4_MXFP4_DUALSCALE";

std::vector<float> sparse_row(size_t k, const std::vector<std::pair<size_t, float>>& values) {
  std::vector<float> row(k, 0.0f);
  for (const auto& [at, value] : values) row[at] = value;
  return row;
}

// The tensors that we write for w:[1,k].
LayerTensors written(const std::string& algorithm, const std::vector<float>& row,
                     Compat compat = Compat::kNone) {
  const FloatLayer layer = {
      .name = "0",
      .weight = float_tensor(DType::kF32, {1, static_cast<int64_t>(row.size())}, row),
      .bias = {}};
  return write_layer_params(*find_algorithm(algorithm), layer, {.compat = compat}, context());
}

const Tensor& named(const LayerTensors& tensors, const std::string& name) {
  for (const NamedTensor& t : tensors) {
    if (t.name == name) return t.tensor;
  }
  throw Error(ErrorCode::kInternal, "no tensor " + name);
}

// What the weights of layer "0" stand for, through files.
std::vector<float> dequantized(const std::string& algorithm, const LayerTensors& tensors) {
  TestFolder folder;
  dequantize(write_layer(folder, algorithm, tensors), folder / "f.safetensors", {}, context());
  return floats_of(WeightStore::open_file(folder / "f.safetensors").read("0.weight"));
}

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

TEST(Conformance, Case33_UpstreamWritesTheFloorRule) {
  const std::vector<float> row =
      sparse_row(64, {{0, 1}, {1, -.3f}, {2, .001f}, {3, 1.74609375f}, {32, -3}});
  const LayerTensors tensors = written("W8A8_MXFP8", row, Compat::kUpstream);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), (std::vector<uint8_t>{119, 120}));
  std::vector<uint8_t> codes(64);
  codes = {0x78, 0xEA, 0x28, 0x7E};
  codes.resize(64);
  codes[32] = 0xFC;
  EXPECT_EQ(bytes_of(named(tensors, "0.weight")), codes);
  // Case 34: a tie of two bits at exponent 4.
  const LayerTensors tie =
      written("W8A8_MXFP8", sparse_row(32, {{0, 256}, {1, 17}}), Compat::kUpstream);
  EXPECT_EQ(bytes_of(named(tie, "0.weight"))[1], e4m3_from_float(18, Rounding::kHalfEven));
}

TEST(Conformance, Case34_TiesOfMxfp8HaveANamedRounding) {
  const std::vector<std::array<float, 3>> ties = {// value, half away, half even
                                                  {17, 18, 16},
                                                  {19, 20, 20},
                                                  {1.0625f, 1.125f, 1},
                                                  {-1.0625f, -1.125f, -1},
                                                  {0x1p-10f, 0x1p-9f, 0}};
  for (const auto& [value, away, even] : ties) {
    EXPECT_EQ(e4m3_to_float(e4m3_from_float(value, Rounding::kHalfAway)), away) << value;
    EXPECT_EQ(e4m3_to_float(e4m3_from_float(value, Rounding::kHalfEven)), even) << value;
  }
}

TEST(Conformance, Case35_ScalesOfMxfp4HaveANamedRule) {
  struct Byte {
    float amax;
    int upstream;
    int floor;
  };
  constexpr Byte kBytes[] = {{0, 105, 0},      {.875f, 125, 124}, {1, 125, 125}, {1.75f, 126, 125},
                             {3.5f, 127, 126}, {6, 127, 127},     {7, 128, 127}, {12, 128, 128}};
  for (const auto& [amax, upstream, floor] : kBytes) {
    EXPECT_EQ(scale_byte(amax, Element::kE2M1, MxScaleRule::kUpstreamFp4), upstream) << amax;
    EXPECT_EQ(scale_byte(amax, Element::kE2M1, MxScaleRule::kFloor), floor) << amax;
  }
}

TEST(Conformance, Case35_UpstreamRaisesTheScaleOfMxfp4) {
  for (const auto& [amax, byte] :
       std::vector<std::pair<float, int>>{{1, 125}, {1.75f, 126}, {7, 128}, {12, 128}}) {
    const LayerTensors tensors =
        written("W4A4_MXFP4", sparse_row(32, {{0, amax}}), Compat::kUpstream);
    EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")).at(0), byte) << amax;
  }
}

TEST(Conformance, Case36_AnExactRowOfMxfp4) {
  const std::vector<float> row =
      sparse_row(32, {{0, 6}, {1, -3}, {2, 1.5f}, {3, .5f}, {5, -.5f}, {6, 2}, {7, -4}});
  const LayerTensors tensors = written("W4A4_MXFP4", row);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), (std::vector<uint8_t>{127}));
  std::vector<uint8_t> codes(16);
  codes = {0xD7, 0x13, 0x90, 0xE4};
  codes.resize(16);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight")), codes);
  EXPECT_EQ(dequantized("W4A4_MXFP4", tensors), row);
}

std::vector<uint8_t> packed_e2m1(const std::vector<float>& values) {
  std::vector<uint8_t> codes;
  for (const float v : values) codes.push_back(e2m1_from_float(v, Rounding::kHalfEven));
  std::vector<uint8_t> packed(codes.size() / 2);
  pack_nibbles_along_k(codes.data(), static_cast<int64_t>(codes.size()), packed.data());
  return packed;
}

TEST(Conformance, Case37_BothFormsOfFp4HoldTheSameWeights) {
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
  EXPECT_EQ(dequantized("W4A4_MXFP4", a), dequantized("W4A4_MXFP4", b));
  LayerTensors wrong = b;
  unpacked[0] = 0x39;  // 1.125: no value of e2m1
  wrong[0].tensor = code_tensor(DType::kF8E4M3, {6, 64}, unpacked);
  EXPECT_EQ(error_of([&] { dequantized("W4A4_MXFP4", wrong); }).details().tensor, "0.weight");

  // An odd K, which packing would hide, is written unpacked; upstream refuses it.
  const LayerTensors odd = written("W4A4_MXFP4", std::vector<float>(33, 1.0f));
  EXPECT_EQ(named(odd, "0.weight").dtype(), DType::kF8E4M3);
  EXPECT_EQ(named(odd, "0.weight").shape(), (Shape{1, 33}));
  EXPECT_EQ(dequantized("W4A4_MXFP4", odd), std::vector<float>(33, 1.0f));
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

TEST(Conformance, Case38_AnOddNumberOfBlocksLoads) {
  for (const QuantizeOptions& options : kEitherWay) {
    for (const int64_t k : {96, 32, 40, 64}) {
      EXPECT_LT(miss_of_matmul("W8A8_MXFP8", Element::kE4M3, k, true, options), 1e-6) << k;
      EXPECT_LT(miss_of_matmul("W4A4_MXFP4", Element::kE2M1, k, true, options), 1e-6) << k;
    }
    EXPECT_GT(miss_of_matmul("W4A4_MXFP4", Element::kE4M3, 96, true, options), 1e-3) << "another x";
  }
}

TEST(Conformance, Case39_MxLayersNeedNoBias) {
  for (const QuantizeOptions& options : kEitherWay) {
    EXPECT_LT(miss_of_matmul("W8A8_MXFP8", Element::kE4M3, 64, false, options), 1e-6);
    EXPECT_LT(miss_of_matmul("W4A4_MXFP4", Element::kE2M1, 64, false, options), 1e-6);
  }
}

bool dual_is_served() { return find_algorithm(kDual)->status == AlgorithmStatus::kServed; }

TEST(Conformance, Case40_TwoLevelsOfScales) {
  if (!dual_is_served()) GTEST_SKIP() << kDual << " is not served by this version";
  const std::vector<float> row = sparse_row(512, {{0, 12}, {1, -6}, {32, 1}});
  const LayerTensors tensors = written(kDual, row);
  EXPECT_EQ(floats_of(named(tensors, "0.weight_dual_scale")), std::vector<float>{2});
  // Blocks of zeros have byte 0; upstream's exporter gives them 105.
  std::vector<uint8_t> scales = {127, 124};
  scales.resize(16);
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), scales);
  std::vector<uint8_t> codes(256);
  codes[0] = 0xD7;
  codes[16] = 0x06;
  EXPECT_EQ(bytes_of(named(tensors, "0.weight")), codes);
  EXPECT_EQ(dequantized(kDual, tensors), row);
  LayerTensors upstream = tensors;
  std::fill(scales.begin() + 2, scales.end(), uint8_t{105});
  upstream[1].tensor = code_tensor(DType::kU8, {1, 16}, scales);
  ASSERT_EQ(upstream[1].name, "0.weight_scale");
  EXPECT_EQ(dequantized(kDual, upstream), row);

  std::vector<Shape> shapes;
  for (const PlannedTensor& t :
       plan_layer_tensors(*find_algorithm(kDual), "0", {.n = 3, .k = 1088}, HasBias::kNo)) {
    shapes.push_back(t.tensor.shape);
  }
  EXPECT_EQ(shapes, (std::vector<Shape>{{3, 544}, {3, 34}, {3, 3, 1}}));
}

TEST(Conformance, Case40_UpstreamGivesBlocksOfZerosAByte) {
  if (!dual_is_served()) GTEST_SKIP() << kDual << " is not served by this version";
  const LayerTensors tensors =
      written(kDual, sparse_row(512, {{0, 12}, {1, -6}, {32, 1}}), Compat::kUpstream);
  std::vector<uint8_t> scales(16, 105);
  scales[0] = 127;
  scales[1] = 124;
  EXPECT_EQ(bytes_of(named(tensors, "0.weight_scale")), scales);
}

constexpr int64_t kDualRows = 64;

// Codes of x:[kDualRows,512] by the operator.
std::vector<uint8_t> dual_codes(const Tensor& x, Compat compat) {
  std::vector<uint8_t> q(static_cast<size_t>(kDualRows * kDualBlock));
  std::vector<uint8_t> block_scale(static_cast<size_t>(kDualRows * mx_blocks(kDualBlock)));
  std::vector<float> dual(kDualRows);
  quantize_mx_kernels().back().run({.x = x.raw(),
                                    .x_type = FloatType::kBF16,
                                    .x_stride = kDualBlock,
                                    .k = kDualBlock,
                                    .element = Element::kE2M1,
                                    .compat = compat,
                                    .q = q.data(),
                                    .block_scale = block_scale.data(),
                                    .dual_scale = dual.data(),
                                    .m_begin = 0,
                                    .m_end = kDualRows});
  return q;
}

// Of one row of 512, x / scale being a bf16 again before its blocks are made.
std::vector<uint8_t> rounded_dual_codes(std::span<const float> x) {
  float amax = 0;
  for (const float v : x) amax = std::max(amax, std::abs(v));
  std::vector<float> t;
  for (const float v : x) t.push_back(round_to_bf16(dual_inner(v, dual_scale(amax))));
  std::vector<uint8_t> codes(t.size());
  for (size_t i = 0; i < t.size(); i += kMxBlock) {
    mx_quantize_block(t.data() + i, kMxBlock, Element::kE2M1, MxScaleRule::kFloor,
                      Rounding::kHalfEven, codes.data() + i);
  }
  return codes;
}

TEST(Conformance, Case40_UpstreamRoundsTheInnerValuesOfX) {
  std::mt19937_64 random(40);
  const Tensor x = normal_tensor(DType::kBF16, {kDualRows, kDualBlock}, random);
  const std::vector<float> values = floats_of(x);
  std::vector<uint8_t> expected;
  for (size_t row = 0; row < kDualRows; ++row) {
    const auto codes = rounded_dual_codes(std::span(values).subspan(row * kDualBlock, kDualBlock));
    expected.insert(expected.end(), codes.begin(), codes.end());
  }
  EXPECT_EQ(dual_codes(x, Compat::kUpstream), expected);
  EXPECT_NE(dual_codes(x, Compat::kNone), expected) << "the rounding is seen";
}

TEST(Conformance, Case41_AZeroOuterScaleMeansZeros) {
  if (!dual_is_served()) GTEST_SKIP() << kDual << " is not served by this version";
  LayerTensors tensors = written(kDual, std::vector<float>(512, 0.0f));
  const std::vector<float> zeros(512, 0.0f);
  EXPECT_EQ(dequantized(kDual, tensors), zeros);
  EXPECT_EQ(floats_of(named(tensors, "0.weight_dual_scale")), std::vector<float>{0});
  tensors[0].tensor = code_tensor(DType::kU8, {1, 256}, std::vector<uint8_t>(256, 0x77));
  EXPECT_EQ(dequantized(kDual, tensors), zeros);
  const Tensor ones = float_tensor(DType::kF32, {1, 512}, std::vector<float>(512, 1));
  for (const QuantizeOptions& options : kEitherWay) {
    TestFolder folder;
    OneLinear model(1, 512, false);
    quantize(model.map, write_layer(folder, kDual, tensors), options, context());
    EXPECT_EQ(outputs(model.linear, ones), std::vector<float>{0});
  }
}

void expect_branch(const QuantizeOptions& options) {
  constexpr int64_t kN = 6;
  constexpr int64_t kK = 64;
  LayerTensors with =
      random_layer_of("W4A4_MXFP4_SVD", "0", {.dims = {.n = kN, .k = kK, .rank = 4}, .bias = true});
  LayerTensors without = with;
  std::erase_if(without,
                [](const NamedTensor& t) { return t.name.find("lowrank") != std::string::npos; });
  for (NamedTensor& t : without) {
    if (t.label != "FLOAT") t.label = "W4A4_MXFP4";
  }
  std::mt19937_64 random(42);
  const Tensor x = normal_tensor(DType::kF32, {3, kK}, random);
  const auto y_of = [&](const std::string& algorithm, const LayerTensors& tensors) {
    TestFolder folder;
    OneLinear model(kN, kK, true);
    quantize(model.map, write_layer(folder, algorithm, tensors), options, context());
    return outputs(model.linear, x);
  };
  const std::vector<float> l1 = floats_of(named(with, "0.svd_lowrank_l1"));
  const std::vector<float> l2 = floats_of(named(with, "0.svd_lowrank_l2"));
  std::vector<float> branch;
  for (size_t m = 0; m < 3; ++m) {
    for (size_t n = 0; n < kN; ++n) {
      double sum = 0;
      for (size_t r = 0; r < 4; ++r) {
        for (size_t k = 0; k < kK; ++k) {
          sum += double{x.data<float>()[m * kK + k]} * l1[r * kK + k] * l2[n * 4 + r];
        }
      }
      branch.push_back(static_cast<float>(sum));
    }
  }
  const std::vector<float> main = y_of("W4A4_MXFP4", without);
  std::vector<float> sum;
  for (size_t i = 0; i < main.size(); ++i) sum.push_back(main[i] + branch[i]);
  EXPECT_LT(relative_error(y_of("W4A4_MXFP4_SVD", with), sum), 1e-6);

  for (NamedTensor& t : with) {
    if (t.name == "0.weight")
      std::memset(t.tensor.buffer().mutable_data(), 0, static_cast<size_t>(t.tensor.byte_size()));
    if (t.name == "0.bias") t.tensor = float_tensor(DType::kF32, {kN}, std::vector<float>(kN));
  }
  EXPECT_LT(relative_error(y_of("W4A4_MXFP4_SVD", with), branch), 1e-6);
}

TEST(Conformance, Case42_ALowRankBranchIsAdded) {
  for (const QuantizeOptions& options : kEitherWay) expect_branch(options);
}

}  // namespace
}  // namespace mezzotint::conformance
