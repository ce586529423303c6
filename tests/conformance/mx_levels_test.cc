// Conformance cases 40 to 42: what stands on MX blocks, a second level of scales or a low-rank
// branch.
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "conformance/mx_fixture.h"
#include "kernels/registry.h"
#include "numerics/bf16.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"

namespace mezzotint::conformance {
namespace {

constexpr const char* kDual = "W4A4_MXFP4_DUALSCALE";

TEST(Conformance, Case40_TwoLevelsOfScales) {
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

TEST(ConformanceUpstream, Case40_UpstreamGivesBlocksOfZerosAByte) {
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

TEST(ConformanceUpstream, Case40_UpstreamRoundsTheInnerValuesOfX) {
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

TEST(ConformanceEitherWay, Case41_AZeroOuterScaleMeansZeros) {
  const std::vector<float> zeros(512, 0.0f);
  const Tensor ones = float_tensor(DType::kF32, {1, 512}, std::vector<float>(512, 1));
  for (const QuantizeOptions& options : kEitherWay) {
    LayerTensors tensors = written(kDual, zeros, options.compat);
    EXPECT_EQ(dequantized(kDual, tensors), zeros);
    EXPECT_EQ(floats_of(named(tensors, "0.weight_dual_scale")), std::vector<float>{0});
    tensors[0].tensor = code_tensor(DType::kU8, {1, 256}, std::vector<uint8_t>(256, 0x77));
    EXPECT_EQ(dequantized(kDual, tensors), zeros);
    const TestFolder folder;
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

TEST(ConformanceEitherWay, Case42_ALowRankBranchIsAdded) {
  for (const QuantizeOptions& options : kEitherWay) expect_branch(options);
}

}  // namespace
}  // namespace mezzotint::conformance
