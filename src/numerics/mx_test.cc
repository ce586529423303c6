#include "numerics/mx.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "numerics/golden_testing.h"
#include "numerics/nibbles.h"

namespace mezzotint {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint32_t kInfinityBits = 0x7f800000u;

struct NamedElement {
  const char* name;
  Element element;
};
constexpr NamedElement kElements[] = {
    {"e4m3", Element::kE4M3}, {"e5m2", Element::kE5M2}, {"e2m1", Element::kE2M1}};

struct NamedRule {
  const char* name;
  MxScaleRule rule;
};
constexpr NamedRule kTorchaoRules[] = {{"floor", MxScaleRule::kFloor},
                                       {"rceil", MxScaleRule::kRceil},
                                       {"ceil", MxScaleRule::kCeil},
                                       {"even", MxScaleRule::kEven}};

uint8_t scale_byte(uint32_t bits, Element element, MxScaleRule rule, float constant) {
  return mx_scale_byte(float_of_bits(bits), element, rule, constant);
}

// The edges of our own staircase, by bisection: what a library's edges are compared with.
uint32_t edge_of(int byte, Element element, MxScaleRule rule, float constant) {
  uint32_t low = 0;
  uint32_t high = kInfinityBits - 1;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (scale_byte(middle, element, rule, constant) >= byte ? high : low) = middle;
  }
  return high;
}

// How many floats the farthest of our edges lies above (below: negative) the library's.
struct EdgeDistance {
  int64_t lowest = 0;
  int64_t highest = 0;
};

EdgeDistance edge_distance(const Staircase& golden, Element element, MxScaleRule rule,
                           float constant) {
  EdgeDistance distance;
  EXPECT_EQ(scale_byte(0, element, rule, constant), golden.first);
  int byte = golden.first;
  for (const uint32_t edge : golden.edges) {
    ++byte;
    const int64_t ours = edge_of(byte, element, rule, constant);
    distance.lowest = std::min(distance.lowest, ours - edge);
    distance.highest = std::max(distance.highest, ours - edge);
  }
  return distance;
}

// Every bf16 that is not negative; returns how many bytes differ.
int bf16_differences(const Staircase& golden, Element element, MxScaleRule rule, float constant) {
  int differences = 0;
  for (uint32_t upper = 0; upper <= golden.last >> 16; ++upper) {
    const uint32_t bits = upper << 16;
    if (scale_byte(bits, element, rule, constant) != golden.code(bits)) ++differences;
  }
  return differences;
}

// In float, log2 of 2^k (1 - d) is k already where d / ln 2 is below half an ulp of k: for the
// largest |k|, 127, where d < 2^-18.5, and that is 44 floats. torchao 0.18's RCEIL and the exporter
// compute so; edges of ours are exact.
constexpr int64_t kFloatLog2 = 48;

TEST(MxScaleByte, HasTheEdgesOfTorchao) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_scales.json").at("torchao");
  int count = 0;
  for (const NamedRule& rule : kTorchaoRules) {
    for (const NamedElement& element : kElements) {
      const std::string name = std::string(rule.name) + " " + element.name;
      const Staircase golden = read_staircase(goldens.at(name));
      const EdgeDistance distance = edge_distance(golden, element.element, rule.rule, 0.0f);
      const int64_t tolerance = rule.rule == MxScaleRule::kRceil ? kFloatLog2 : 0;
      EXPECT_EQ(distance.highest, 0) << name;
      EXPECT_GE(distance.lowest, -tolerance) << name;
      EXPECT_EQ(bf16_differences(golden, element.element, rule.rule, 0.0f), 0) << name;
      count += static_cast<int>(golden.edges.size());
    }
  }
  EXPECT_EQ(count, 2945);  // all edges of the file
}

TEST(MxScaleByte, HasTheEdgesOfTheExporter) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_scales.json").at("exporter");
  struct {
    const char* name;
    Element element;
    MxScaleRule rule;
    float constant;
  } const cases[] = {{"e4m3", Element::kE4M3, MxScaleRule::kFloor, 0},
                     {"e2m1", Element::kE2M1, MxScaleRule::kUpstreamFp4, 0},
                     {"6.0", Element::kE2M1, MxScaleRule::kCeilX, 6.0f},
                     {"7.25", Element::kE2M1, MxScaleRule::kCeilX, 7.25f},
                     {"12.0", Element::kE2M1, MxScaleRule::kCeilX, 12.0f}};
  for (const auto& c : cases) {
    const Staircase golden = read_staircase(goldens.at(c.name));
    const EdgeDistance distance = edge_distance(golden, c.element, c.rule, c.constant);
    // ceil reaches the integer from above, floor from below.
    EXPECT_LE(distance.highest, c.rule == MxScaleRule::kCeilX ? 0 : kFloatLog2) << c.name;
    EXPECT_GE(distance.lowest, c.rule == MxScaleRule::kCeilX ? -kFloatLog2 : 0) << c.name;
    // One bf16, amax = 16 c: 16 + 9.6e-7 is the float above 16, whose log2 is 4 in float.
    const int exceptions = c.rule == MxScaleRule::kCeilX ? 1 : 0;
    EXPECT_EQ(bf16_differences(golden, c.element, c.rule, c.constant), exceptions) << c.name;
    if (exceptions == 0) continue;
    const float amax = 16.0f * c.constant;
    EXPECT_EQ(mx_scale_byte(amax, c.element, c.rule, c.constant), 132);
    EXPECT_EQ(golden.code(std::bit_cast<uint32_t>(amax)), 131);
  }
}

// The tolerance has teeth: neighbouring rules and constants are hundreds of thousands of floats
// off.
TEST(MxScaleByte, EdgesTellTheRulesApart) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_scales.json");
  const Staircase rceil = read_staircase(goldens.at("torchao").at("rceil e2m1"));
  const EdgeDistance other = edge_distance(rceil, Element::kE2M1, MxScaleRule::kEven, 0.0f);
  EXPECT_GT(std::max(-other.lowest, other.highest), 1000 * kFloatLog2);
  const Staircase ceil_x = read_staircase(goldens.at("exporter").at("7.25"));
  const EdgeDistance near = edge_distance(ceil_x, Element::kE2M1, MxScaleRule::kCeilX, 7.26f);
  EXPECT_GT(near.highest, 100 * kFloatLog2);
}

TEST(MxScaleByte, RceilIsTheSmallestScaleThatHoldsTheProduct) {
  std::mt19937 rng(29);
  for (int i = 0; i < 1000000; ++i) {
    const float amax = float_of_bits(static_cast<uint32_t>(rng()) & 0x7fffffffu);
    if (!is_finite(amax)) continue;
    for (const NamedElement& e : kElements) {
      const float product = amax * (1.0f / element_max(e.element));
      const uint8_t byte = mx_scale_byte(amax, e.element, MxScaleRule::kRceil, 0);
      ASSERT_GE(e8m0_to_float(byte), product) << amax << e.name;
      const double below = byte == 0 ? -1.0 : std::ldexp(1.0, byte - 128);
      ASSERT_LT(below, product) << amax << e.name;
    }
  }
}

TEST(MxScaleByte, BlocksThatAreNotFiniteAreNaN) {
  for (const MxScaleRule rule :
       {MxScaleRule::kFloor, MxScaleRule::kRceil, MxScaleRule::kCeil, MxScaleRule::kEven,
        MxScaleRule::kUpstreamFp4, MxScaleRule::kCeilX}) {
    for (const NamedElement& e : kElements) {
      EXPECT_EQ(mx_scale_byte(kInfinity, e.element, rule, kExporterCeilX), 255);
      EXPECT_EQ(mx_scale_byte(kQuietNaN, e.element, rule, kExporterCeilX), 255);
      EXPECT_LE(mx_scale_byte(std::numeric_limits<float>::max(), e.element, rule, kExporterCeilX),
                254);
    }
  }
}

// Worked numbers of the formats.
TEST(MxScaleByte, WorkedNumbers) {
  const auto fp8 = [](float amax) {
    return int{mx_scale_byte(amax, Element::kE4M3, MxScaleRule::kFloor, 0)};
  };
  EXPECT_EQ(fp8(0.0f), 0);
  EXPECT_EQ(fp8(1.0f), 119);
  EXPECT_EQ(fp8(448.0f), 127);
  EXPECT_EQ(fp8(450.0f), 127);
  EXPECT_EQ(fp8(3e38f), 246);
  const auto fp4 = [](float amax) {
    return int{mx_scale_byte(amax, Element::kE2M1, MxScaleRule::kUpstreamFp4, 0)};
  };
  const float amax[] = {0.0f, 1e-6f, 0.875f, 1.0f, 1.7499f, 1.75f, 3.5f, 6.0f, 7.0f, 12.0f, 3e38f};
  const int bytes[] = {105, 106, 125, 125, 125, 126, 127, 127, 128, 128, 252};
  for (int i = 0; i < 11; ++i) EXPECT_EQ(fp4(amax[i]), bytes[i]) << amax[i];
}

TEST(MxElement, LargestAndItsExponentBelongTogether) {
  for (const NamedElement& e : kElements) {
    EXPECT_EQ(std::ilogb(element_max(e.element)), element_emax(e.element)) << e.name;
    const uint8_t code = mx_element_from_float(kInfinity, e.element, Rounding::kHalfEven);
    EXPECT_EQ(mx_element_to_float(code, e.element), element_max(e.element)) << e.name;
  }
}

// ldexp in double has the range to scale without rounding.
TEST(MxCode, ScalesExactlyAtEveryByte) {
  std::mt19937 rng(31);
  for (int byte = 0; byte < 255; ++byte) {
    for (const NamedElement& e : kElements) {
      for (int i = 0; i < 200; ++i) {
        const uint32_t exponent = static_cast<uint32_t>(std::clamp(byte - 20 + i / 4, 0, 254));
        const float x = float_of_bits(static_cast<uint32_t>(rng()) & 0x807fffffu) +
                        float_of_bits(exponent << 23 | (static_cast<uint32_t>(rng()) & 0x7fffffu));
        const double scaled = std::ldexp(static_cast<double>(x), 127 - byte);
        const auto narrowed = static_cast<float>(std::clamp(scaled, -1e30, 1e30));
        for (const Rounding rounding : {Rounding::kHalfEven, Rounding::kHalfAway}) {
          ASSERT_EQ(mx_code(x, static_cast<uint8_t>(byte), e.element, rounding),
                    mx_element_from_float(narrowed, e.element, rounding))
              << x << " " << byte << " " << e.name;
        }
      }
    }
  }
}

TEST(MxValue, IsTheElementTimesThePowerOfTwo) {
  for (int byte = 0; byte < 256; ++byte) {
    for (const NamedElement& e : kElements) {
      const int codes = e.element == Element::kE2M1 ? 16 : 256;
      for (int code = 0; code < codes; ++code) {
        const float value =
            mx_value(static_cast<uint8_t>(code), static_cast<uint8_t>(byte), e.element);
        const double element = mx_element_to_float(static_cast<uint8_t>(code), e.element);
        const double exact = byte == 255 ? std::nan("") : std::ldexp(element, byte - 127);
        if (std::isnan(exact)) {
          ASSERT_TRUE(std::isnan(value));
        } else {
          ASSERT_EQ(value, static_cast<float>(exact)) << byte << " " << code << e.name;
        }
      }
    }
  }
}

// --- whole blocks --------------------------------------------------------------------------------

struct Quantized {
  std::vector<uint8_t> bytes;  // [blocks]
  std::vector<uint8_t> codes;  // [blocks, 32]
};

Quantized quantize(const std::vector<float>& x, Element element, MxScaleRule rule,
                   Rounding rounding) {
  Quantized result{.bytes = {}, .codes = std::vector<uint8_t>(x.size())};
  for (size_t i = 0; i < x.size(); i += kMxBlock) {
    result.bytes.push_back(mx_quantize_block(x.data() + i, kMxBlock, element, rule, rounding,
                                             result.codes.data() + i));
  }
  return result;
}

TEST(MxQuantizeBlock, HasTheBytesAndCodesOfTorchao) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_blocks.json");
  const std::vector<float> x = golden_rows(goldens);
  ASSERT_EQ(x.size(), 16 * 32);
  for (const NamedRule& rule : kTorchaoRules) {
    for (const NamedElement& e : kElements) {
      const std::string name = std::string(rule.name) + " " + e.name;
      const GoldenJson& golden = goldens.at("torchao").at(name);
      const Quantized ours = quantize(x, e.element, rule.rule, Rounding::kHalfEven);
      EXPECT_EQ(ours.bytes, read_hexadecimal(golden.at(0).get<std::string>())) << name;
      EXPECT_EQ(ours.codes, read_hexadecimal(golden.at(1).get<std::string>())) << name;
    }
  }
}

TEST(MxQuantizeBlock, HasTheBytesAndCodesOfTheExporter) {
  const GoldenJson goldens = read_numerics_golden(MZ_SOURCE_DIR, "mx_blocks.json");
  const std::vector<float> x = golden_rows(goldens);
  for (const Element element : {Element::kE4M3, Element::kE2M1}) {
    const bool fp4 = element == Element::kE2M1;
    const GoldenJson& golden = goldens.at("exporter").at(fp4 ? "e2m1" : "e4m3");
    const MxScaleRule rule = fp4 ? MxScaleRule::kUpstreamFp4 : MxScaleRule::kFloor;
    const Quantized ours = quantize(x, element, rule, Rounding::kHalfAway);
    EXPECT_EQ(ours.bytes, read_hexadecimal(golden.at(0).get<std::string>()));
    EXPECT_EQ(ours.codes, read_hexadecimal(golden.at(1).get<std::string>()));
    // The goldens are fine enough to tell the roundings apart.
    EXPECT_NE(ours.codes, quantize(x, element, rule, Rounding::kHalfEven).codes);
  }
}

TEST(MxQuantizeBlock, OneInfinityOrNaNMakesTheBlockNaN) {
  for (const float bad : {kInfinity, -kInfinity, kQuietNaN}) {
    std::array<float, 5> x = {1.0f, 2.0f, bad, -3.0f, 0.0f};
    std::array<uint8_t, 5> codes = {9, 9, 9, 9, 9};
    EXPECT_EQ(mx_quantize_block(x.data(), 5, Element::kE4M3, MxScaleRule::kFloor,
                                Rounding::kHalfEven, codes.data()),
              255);
    EXPECT_EQ(codes, (std::array<uint8_t, 5>{}));
  }
}

// npu_dynamic_mx_quant clears blocks with amax < 2^(emax - 126); one step above, they have values.
TEST(MxQuantizeBlock, FloorClearsBlocksWithoutAnExponent) {
  for (const NamedElement& e : kElements) {
    const float limit = std::ldexp(1.0f, element_emax(e.element) - 126);
    const auto block = [&](float x, uint8_t& code) {
      return mx_quantize_block(&x, 1, e.element, MxScaleRule::kFloor, Rounding::kHalfEven, &code);
    };
    uint8_t code = 0;
    EXPECT_EQ(block(limit, code), 1) << e.name;
    EXPECT_EQ(mx_value(code, 1, e.element), limit) << e.name;
    EXPECT_EQ(block(std::nextafter(-limit, 0.0f), code), 0) << e.name;
    EXPECT_EQ(code, 0) << e.name;
    EXPECT_EQ(block(0.0f, code), 0) << e.name;
    EXPECT_EQ(code, 0) << e.name;
  }
}

TEST(MxQuantizeBlock, CeilXTakesItsConstant) {
  const float x[] = {6.5f, 1.0f};
  std::array<uint8_t, 2> codes = {};
  const auto byte = [&](float c) {
    return int{mx_quantize_block(x, 2, Element::kE2M1, MxScaleRule::kCeilX, Rounding::kHalfAway,
                                 codes.data(), c)};
  };
  EXPECT_EQ(byte(6.0f), 128);
  EXPECT_EQ(byte(7.25f), 127);
  EXPECT_EQ(codes, (std::array<uint8_t, 2>{0x7, 0x2}));
  EXPECT_EQ(mx_quantize_block(x, 2, Element::kE2M1, MxScaleRule::kCeilX, Rounding::kHalfAway,
                              codes.data()),
            127);
}

// The documentation's example of npu_dynamic_mx_quant, and one row of each exporter's format.
TEST(MxQuantizeBlock, WorkedRows) {
  std::vector<float> x(64, 0.0f);
  x[1] = 8.0f, x[2] = 64.0f, x[3] = 512.0f;
  Quantized q = quantize(x, Element::kE4M3, MxScaleRule::kFloor, Rounding::kHalfEven);
  EXPECT_EQ(q.bytes, (std::vector<uint8_t>{128, 0}));
  EXPECT_EQ(e4m3_to_float(q.codes[1]), 4.0f);
  EXPECT_EQ(e4m3_to_float(q.codes[2]), 32.0f);
  EXPECT_EQ(e4m3_to_float(q.codes[3]), 256.0f);

  x.assign(64, 0.0f);
  x[0] = 1.0f, x[1] = -0.3f, x[2] = 0.001f, x[3] = 1.74609375f, x[32] = -3.0f;
  q = quantize(x, Element::kE4M3, MxScaleRule::kFloor, Rounding::kHalfAway);
  EXPECT_EQ(q.bytes, (std::vector<uint8_t>{119, 120}));
  EXPECT_EQ(std::vector<uint8_t>(q.codes.begin(), q.codes.begin() + 4),
            (std::vector<uint8_t>{0x78, 0xea, 0x28, 0x7e}));
  EXPECT_EQ(q.codes[32], 0xfc);

  x = {6.0f, -3.0f, 1.5f, 0.5f, 0.0f, -0.5f, 2.0f, -4.0f};
  x.resize(32);
  q = quantize(x, Element::kE2M1, MxScaleRule::kUpstreamFp4, Rounding::kHalfAway);
  EXPECT_EQ(q.bytes, std::vector<uint8_t>{127});
  std::array<uint8_t, 16> packed = {};
  pack_nibbles_along_k(q.codes.data(), 32, packed.data());
  EXPECT_EQ(packed, (std::array<uint8_t, 16>{0xd7, 0x13, 0x90, 0xe4}));
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(mx_value(q.codes[i], 127, Element::kE2M1), x[i]);
}

// |d - x| <= max(2^-4 |x|, 2^-10 2^e) for e4m3, max(2^-2 |x|, 2^-2 2^e) for e2m1, where nothing
// saturates, which is what RCEIL is for.
TEST(MxQuantizeBlock, RceilErrorIsHalfAStep) {
  std::mt19937 rng(37);
  std::normal_distribution<float> normal;
  for (int block = 0; block < 2000; ++block) {
    std::array<float, kMxBlock> x;
    for (float& value : x) value = normal(rng) * std::ldexp(1.0f, block % 40 - 20);
    for (const NamedElement& e : kElements) {
      const int bits = element_mantissa_bits(e.element);
      const int min_exponent = e.element == Element::kE5M2 ? -14 : (bits == 3 ? -6 : 0);
      std::array<uint8_t, kMxBlock> codes = {};
      const uint8_t byte = mx_quantize_block(x.data(), kMxBlock, e.element, MxScaleRule::kRceil,
                                             Rounding::kHalfEven, codes.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = std::fabs(double{mx_value(codes[i], byte, e.element)} - x[i]);
        const double step = std::ldexp(std::fabs(double{x[i]}), -bits - 1);
        const double smallest = std::ldexp(1.0, byte - 127 + min_exponent - bits - 1);
        ASSERT_LE(error, std::max(step, smallest)) << e.name;
      }
    }
  }
}

}  // namespace
}  // namespace mezzotint
