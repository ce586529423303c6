#include "kernels/coded_row.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "kernels/float_ops.h"
#include "kernels/test_data.h"
#include "kernels/weight_decode.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"

namespace mezzotint {
namespace {

using testing_data::as_type;
using testing_data::floats;

constexpr int64_t kLengths[] = {1, 2, 7, 16, 31, 32, 48, 511, 512, 513, 1040, 1500};
constexpr std::array kTypes = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};
constexpr std::array kElements = {Element::kInt8, Element::kInt4, Element::kE4M3, Element::kE2M1};

enum class Scales : uint8_t { kOne, kGroups, kOffsets, kDual };
constexpr std::array kScales = {Scales::kOne, Scales::kGroups, Scales::kOffsets, Scales::kDual};

// A row of every kind of code, with all that it points to.
struct Data {
  std::vector<float> w;  // as the row's type holds them
  std::vector<std::byte> stored, codes;
  std::vector<float> scale, offset, outer;
  std::vector<uint8_t> bytes;  // of MX blocks
  CodedRow row;
};

float power(std::mt19937& rng) { return std::ldexp(1.0f, static_cast<int>(rng() % 12) - 8); }

Data data(int64_t k, FloatType type, Element element, Scales scales) {
  std::mt19937 rng(static_cast<uint32_t>(k) + 7);
  Data d;
  d.stored = as_type(floats(k, 3), type);
  d.w.resize(static_cast<size_t>(k));
  float_ops(Isa::kPortable).widen(d.stored.data(), type, d.w.data(), k);
  for (int64_t i = 0; i < code_row_bytes(element, k); ++i) {
    // NaN is no code of a file that was read.
    const auto byte = static_cast<uint8_t>(rng());
    const bool nan = element == Element::kE4M3 && (byte & 0x7fu) == 0x7fu;
    d.codes.push_back(static_cast<std::byte>(nan ? 0x01u : byte));
  }
  const int64_t width = scales == Scales::kDual ? kMxBlock : scales == Scales::kOne ? k : 48;
  for (int64_t first = 0; first < k; first += width) {
    d.bytes.push_back(static_cast<uint8_t>(rng() % 250));
    const bool dual = scales == Scales::kDual;
    d.scale.push_back(dual ? e8m0_to_float(d.bytes.back()) : power(rng) * 0.9f);
    d.offset.push_back(static_cast<float>(static_cast<int>(rng() % 9) - 4));
  }
  for (int64_t first = 0; first < k; first += kDualBlock) d.outer.push_back(power(rng) * 0.7f);
  d.row = {.w = d.stored.data(),
           .type = type,
           .codes = d.codes.data(),
           .element = element,
           .k = k,
           .width = width,
           .scale = d.scale.data(),
           .offset = scales == Scales::kOffsets ? d.offset.data() : nullptr,
           .outer = scales == Scales::kDual ? d.outer.data() : nullptr,
           .lowest = -3.5f,
           .highest = 2.5f};
  return d;
}

// The passes that the op stands for.
CodedRowSums in_passes(const Data& d, Isa isa) {
  const CodedRow& row = d.row;
  const bool dual = row.outer != nullptr;
  std::vector<float> decoded(d.w.size()), low, high;
  WeightView view = {.codes = row.codes, .element = row.element, .n = 1, .k = row.k};
  if (dual) {
    view.block_scale = d.bytes.data();
    view.dual_scale = row.outer;
  }
  decode_weights(view, 0, 0, row.k, decoded.data());
  for (size_t i = 0; i < d.scale.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * row.width;
    const float offset = row.offset == nullptr ? 0.0f : row.offset[i];
    const float outer = dual ? row.outer[first / kDualBlock] : 1.0f;
    low.push_back((row.lowest - offset) * (d.scale[i] * outer));
    high.push_back((row.highest - offset) * (d.scale[i] * outer));
    for (int64_t at = first; !dual && at < std::min(row.k, first + row.width); ++at) {
      float& value = decoded[static_cast<size_t>(at)];
      value = (value - offset) * d.scale[i];
    }
  }
  const WeightOps& ops = weight_ops(isa);
  CodedRowSums sums;
  ops.add_pairs(d.w.data(), decoded.data(), row.k, sums.pairs);
  sums.outside = ops.count_outside(d.w.data(), low.data(), high.data(), row.width, row.k);
  return sums;
}

void expect_equal(const CodedRowSums& a, const CodedRowSums& b, const std::string& what) {
  EXPECT_EQ(a.pairs.exact, b.pairs.exact) << what;
  EXPECT_EQ(a.pairs.decoded, b.pairs.decoded) << what;
  EXPECT_EQ(a.pairs.product, b.pairs.product) << what;
  EXPECT_EQ(a.pairs.noise, b.pairs.noise) << what;
  EXPECT_EQ(a.pairs.amax, b.pairs.amax) << what;
  EXPECT_EQ(a.pairs.zeros, b.pairs.zeros) << what;
  EXPECT_EQ(a.outside, b.outside) << what;
}

class CodedRowOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
};

TEST_P(CodedRowOf, GivesTheBitsOfTheFivePasses) {
  int64_t outside = 0, zeros = 0;
  for (const int64_t k : kLengths) {
    for (const FloatType type : kTypes) {
      for (const Element element : kElements) {
        for (const Scales scales : kScales) {
          const Data d = data(k, type, element, scales);
          CodedRowSums sums;
          coded_row_op(GetParam())(d.row, sums);
          const std::string what =
              fmt::format("k {} type {} element {} scales {}", k, static_cast<int>(type),
                          static_cast<int>(element), static_cast<int>(scales));
          for (const Isa isa : {Isa::kPortable, GetParam()}) {
            expect_equal(sums, in_passes(d, isa), what);
          }
          outside += sums.outside;
          zeros += sums.pairs.zeros;
        }
      }
    }
  }
  EXPECT_GT(outside, 1000);
  EXPECT_GT(zeros, 1000);
}

TEST_P(CodedRowOf, AddsToWhatIsThere) {
  const Data d = data(100, FloatType::kBF16, Element::kE2M1, Scales::kDual);
  CodedRowSums once, twice;
  coded_row_op(GetParam())(d.row, once);
  twice = once;
  coded_row_op(GetParam())(d.row, twice);
  EXPECT_EQ(twice.pairs.exact, 2 * once.pairs.exact);
  EXPECT_EQ(twice.pairs.zeros, 2 * once.pairs.zeros);
  EXPECT_EQ(twice.outside, 2 * once.outside);
  EXPECT_EQ(twice.pairs.amax, once.pairs.amax);
}

// Whatever place it has: in a whole block, in the rest.
TEST_P(CodedRowOf, NanIsInTheSumsThatItIsIn) {
  for (const size_t at : {size_t{0}, size_t{600}, size_t{1040}}) {
    Data d = data(1041, FloatType::kF32, Element::kInt8, Scales::kOne);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(d.stored.data() + 4 * at, &nan, sizeof nan);
    CodedRowSums sums;
    coded_row_op(GetParam())(d.row, sums);
    EXPECT_TRUE(std::isnan(sums.pairs.exact));
    EXPECT_TRUE(std::isnan(sums.pairs.product));
    EXPECT_TRUE(std::isnan(sums.pairs.noise));
    EXPECT_FALSE(std::isnan(sums.pairs.decoded));
    d.w[at] = nan;
    EXPECT_EQ(sums.outside, in_passes(d, GetParam()).outside);
  }
}

TEST(CodedRow, IsNoOpOfThePortableTable) { EXPECT_EQ(coded_row_op(Isa::kPortable), nullptr); }

INSTANTIATE_TEST_SUITE_P(Isa, CodedRowOf, testing::Values(Isa::kAvx2),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace mezzotint
