#include "solve/upstream_weights.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

WeightStore golden(const std::string& name) {
  return WeightStore::open_file(std::string(MZ_SOURCE_DIR) + "/testdata/oracle/weights/upstream_" +
                                name + ".safetensors");
}

bool same(const Tensor& a, const Tensor& b) {
  return a.byte_size() == b.byte_size() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.byte_size())) == 0;
}

// One code per byte, as the exporter leaves int4.
Tensor unpacked(const Tensor& codes, const Tensor& like) {
  if (codes.dtype() == DType::kI8) return codes;
  Tensor bytes = Tensor::allocate(DType::kI8, like.shape());
  const int64_t k = like.dim(1);
  for (int64_t i = 0; i < bytes.size(); ++i) {
    const uint8_t pair = codes.data<uint8_t>()[i / k * codes.dim(1) + i % k / 2];
    const int nibble = i % k % 2 == 0 ? pair & 15 : pair >> 4;
    bytes.mutable_data<int8_t>()[i] = static_cast<int8_t>(nibble < 8 ? nibble : nibble - 16);
  }
  return bytes;
}

struct IntegerCase {
  const char* name;
  QuantScheme scheme;
};

TEST(UpstreamWeights, IntegersEqualTheOracleBitForBit) {
  const IntegerCase cases[] = {
      {"int8", {.element = Element::kInt8, .granularity = Granularity::kPerChannel}},
      {"int4", {.element = Element::kInt4, .granularity = Granularity::kPerChannel}},
      {"int8_asymmetric",
       {.element = Element::kInt8,
        .granularity = Granularity::kPerGroup,
        .group = 32,
        .asymmetric = true}},
      {"int4_asymmetric",
       {.element = Element::kInt4,
        .granularity = Granularity::kPerGroup,
        .group = 64,
        .asymmetric = true}},
  };
  for (const auto& [name, scheme] : cases) {
    const WeightStore store = golden(name);
    const UpstreamInteger got = upstream_integer_weight(store.read("w"), scheme, context());
    const Tensor weight = store.read("weight");
    EXPECT_TRUE(same(unpacked(got.codes, weight), weight)) << name;
    EXPECT_TRUE(same(got.scale, store.read("weight_scale"))) << name;
    EXPECT_TRUE(same(got.offset, store.read("weight_offset"))) << name;
    QuantScheme other = scheme;
    other.asymmetric = !scheme.asymmetric;
    const UpstreamInteger wrong = upstream_integer_weight(store.read("w"), other, context());
    EXPECT_FALSE(same(wrong.scale, store.read("weight_scale"))) << name;
  }
}

TEST(UpstreamWeights, OneScaleForATensorCoversAllRows) {
  const Tensor w =
      Tensor::copy_of(std::span<const float>(std::vector<float>{1, -2, 0.5f, 127}), {2, 2});
  const UpstreamInteger got = upstream_integer_weight(
      w, {.element = Element::kInt8, .granularity = Granularity::kPerTensor}, context());
  EXPECT_EQ(got.scale.data<float>()[0], 1.0f);
  EXPECT_EQ(got.scale.data<float>()[1], 1.0f);
  EXPECT_EQ(got.codes.data<int8_t>()[1], -2);
}

TEST(UpstreamWeights, MxBlocksEqualTheOracleBitForBit) {
  struct Case {
    const char* name;
    Element element;
    MxLevels levels;
  };
  const Case cases[] = {{"mxfp8", Element::kE4M3, MxLevels::kOne},
                        {"mxfp4", Element::kE2M1, MxLevels::kOne},
                        {"dual", Element::kE2M1, MxLevels::kDual}};
  for (const auto& [name, element, levels] : cases) {
    const WeightStore store = golden(name);
    const MxWeight got = upstream_mx_weight(store.read("w"), element, levels, context());
    EXPECT_TRUE(same(got.codes, store.read("weight"))) << name;
    EXPECT_TRUE(same(got.block_scale, store.read("weight_scale"))) << name;
    if (levels == MxLevels::kDual) {
      EXPECT_TRUE(same(got.dual_scale, store.read("weight_dual_scale"))) << name;
    }
    const MxWeight ours = quantize_mx_weight(store.read("w"), element, levels, context());
    const bool equal = same(ours.codes, got.codes) && same(ours.block_scale, got.block_scale) &&
                       (got.dual_scale.empty() || same(ours.dual_scale, got.dual_scale));
    EXPECT_FALSE(equal) << name << ": the two rules differ";
  }
}

// 0 / 0 in the exporter; finite here.
TEST(UpstreamWeights, AZeroOuterBlockIsFinite) {
  const Tensor w = Tensor::allocate(DType::kF32, {1, 512});
  std::memset(w.buffer().mutable_data(), 0, static_cast<size_t>(w.byte_size()));
  const MxWeight got = upstream_mx_weight(w, Element::kE2M1, MxLevels::kDual, context());
  EXPECT_EQ(got.dual_scale.data<float>()[0], 0.0f);
  EXPECT_EQ(got.codes.data<uint8_t>()[0], 0);
}

}  // namespace
}  // namespace mezzotint
