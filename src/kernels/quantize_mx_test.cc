// Every row of the MX quantizer against the reference: codes and scales bit for bit.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/linear_driver.h"
#include "kernels/test_data.h"

namespace mezzotint {
namespace {

using testing_data::as_type;
using testing_data::floats;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kPadding = 3;
constexpr uint8_t kUntouched = 0x5a;

enum class Levels : uint8_t { kOne, kTwo };

struct Problem {
  int64_t m, k;
  FloatType type;
  std::vector<std::byte> x;
  std::vector<float> mul;
  Element element;
  Levels levels;
};

struct Result {
  std::vector<uint8_t> q, block_scale;
  std::vector<uint32_t> dual_scale;  // bits; NaN never comes, as finite elements decide

  bool operator==(const Result&) const = default;
};

Problem make_problem(int64_t k, FloatType type, Element element, Levels levels, bool smooth) {
  constexpr int64_t kRows = 10;
  std::vector<float> x = floats(kRows * (k + kPadding), static_cast<uint32_t>(k));
  const auto row = [&](int64_t m) { return x.begin() + m * (k + kPadding); };
  std::fill_n(row(1), k, 0.0f);
  *row(2) = kInfinity;
  *(row(3) + k - 1) = kNaN;
  *(row(4) + k / 2) = -kInfinity;
  std::fill_n(row(5), k, std::numeric_limits<float>::denorm_min());
  std::fill_n(row(6), k, -0.0f);
  for (int64_t i = 0; i < k; ++i) *(row(7) + i) = static_cast<float>(i % 49 - 24) / 4;  // ties
  std::fill_n(row(8), k, 3.0e38f);
  for (int64_t i = 0; i < k; ++i) *(row(9) + i) = std::ldexp(1.0f, static_cast<int>(i % 250) - 126);
  return {kRows,   k,     type, as_type(x, type), smooth ? floats(k, 99) : std::vector<float>(),
          element, levels};
}

Result run(const QuantizeMxKernel& row, const Problem& p, int threads = 1) {
  const bool two = p.levels == Levels::kTwo;
  Result r{std::vector<uint8_t>(static_cast<size_t>(p.m * p.k + 1), kUntouched),
           std::vector<uint8_t>(static_cast<size_t>(p.m * mx_blocks(p.k) + 1), kUntouched),
           std::vector<uint32_t>(two ? static_cast<size_t>(p.m * dual_blocks(p.k)) : 0)};
  run_quantize_mx(row,
                  {.x = p.x.data(),
                   .x_type = p.type,
                   .x_stride = p.k + kPadding,
                   .mul = p.mul.empty() ? nullptr : p.mul.data(),
                   .k = p.k,
                   .element = p.element,
                   .q = r.q.data(),
                   .block_scale = r.block_scale.data(),
                   .dual_scale = two ? reinterpret_cast<float*>(r.dual_scale.data()) : nullptr},
                  p.m, ExecContext({.threads = threads}));
  return r;
}

const QuantizeMxKernel& reference() { return quantize_mx_kernels().back(); }

class QuantizeMx : public testing::TestWithParam<const QuantizeMxKernel*> {
 protected:
  void SetUp() override {
    if (row().isa > active_isa()) GTEST_SKIP() << row().name << " needs " << isa_name(row().isa);
  }
  const QuantizeMxKernel& row() const { return *GetParam(); }
};

TEST_P(QuantizeMx, EqualsTheReferenceBitForBit) {
  for (int64_t k :
       {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 511, 512, 513, 1040, 3072}) {
    for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      for (Element element : {Element::kE2M1, Element::kE4M3}) {
        for (Levels levels : {Levels::kOne, Levels::kTwo}) {
          for (bool smooth : {false, true}) {
            const Problem p = make_problem(k, type, element, levels, smooth);
            const Result result = run(row(), p);
            EXPECT_EQ(result, run(reference(), p))
                << k << " type " << static_cast<int>(type) << " element "
                << static_cast<int>(element) << " levels " << static_cast<int>(levels) << smooth;
            EXPECT_EQ(result.q.back(), kUntouched);
            EXPECT_EQ(result.block_scale.back(), kUntouched);
          }
        }
      }
    }
  }
}

// All floats of 16 bits, as they stand in a block whose scale is 1 (e2m1: amax 4, e4m3: amax 256).
TEST_P(QuantizeMx, RoundsEveryBFloat16LikeTheReference) {
  for (Element element : {Element::kE2M1, Element::kE4M3}) {
    const uint16_t largest = element == Element::kE2M1 ? 0x4080 : 0x4380;
    std::vector<uint16_t> x;
    for (uint32_t magnitude = 0; magnitude < largest + 0x80u; ++magnitude) {
      if (x.size() % 32 == 0) x.push_back(largest);
      x.push_back(static_cast<uint16_t>(magnitude % 2 == 0 ? magnitude : magnitude | 0x8000u));
    }
    Problem p = {.m = 1,
                 .k = static_cast<int64_t>(x.size()),
                 .type = FloatType::kBF16,
                 .x = std::vector<std::byte>(x.size() * 2),
                 .mul = {},
                 .element = element,
                 .levels = Levels::kOne};
    std::memcpy(p.x.data(), x.data(), p.x.size());
    EXPECT_EQ(run(row(), p), run(reference(), p)) << static_cast<int>(element);
  }
}

TEST_P(QuantizeMx, ComparisonSeesOneChangedInput) {
  const Problem p = make_problem(33, FloatType::kF32, Element::kE4M3, Levels::kOne, false);
  Problem changed = p;
  reinterpret_cast<float*>(changed.x.data())[32] *= 1.5f;  // the last of row 0: a block of its own
  EXPECT_FALSE(run(row(), p) == run(row(), changed));
}

TEST_P(QuantizeMx, GivesTheSameBitsForAnyNumberOfThreads) {
  Problem p = make_problem(48, FloatType::kF32, Element::kE2M1, Levels::kOne, false);
  p.m = 100;
  p.x = as_type(floats(p.m * (p.k + kPadding), 4), p.type);
  const Result one = run(row(), p, 1);
  EXPECT_EQ(run(row(), p, 2), one);
  EXPECT_EQ(run(row(), p, 7), one);
}

std::vector<const QuantizeMxKernel*> every_row() {
  std::vector<const QuantizeMxKernel*> rows;
  for (const QuantizeMxKernel& row : quantize_mx_kernels()) rows.push_back(&row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, QuantizeMx, testing::ValuesIn(every_row()), [](const auto& info) {
  return std::string(info.param->name.substr(info.param->name.find('/') + 1));
});

}  // namespace
}  // namespace mezzotint
