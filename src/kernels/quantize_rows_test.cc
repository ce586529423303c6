// Every row of the activation quantizer against the reference: codes, sums and scales bit for bit.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/linear_driver.h"
#include "kernels/test_data.h"

namespace mezzotint {
namespace {

using testing_data::as_type;
using testing_data::floats;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Result {
  std::vector<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> sum;

  bool operator==(const Result& other) const {
    if (q != other.q || sum != other.sum) return false;
    for (size_t i = 0; i < scale.size(); ++i) {
      const bool both_nan = std::isnan(scale[i]) && std::isnan(other.scale[i]);
      if (!both_nan && scale[i] != other.scale[i]) return false;
    }
    return true;
  }
};

struct Problem {
  int64_t m, k;
  FloatType type;
  std::vector<std::byte> x;
  std::vector<float> mul;
  Element element = Element::kInt8;
  std::optional<StaticScale> fixed{};
};

constexpr int64_t kPadding = 3;

Problem make_problem(int64_t k, FloatType type, bool smooth) {
  constexpr int64_t kRows = 9;
  std::vector<float> x = floats(kRows * (k + kPadding), static_cast<uint32_t>(k));
  const auto row = [&](int64_t m) { return x.begin() + m * (k + kPadding); };
  std::fill_n(row(1), k, 0.0f);
  *row(2) = kInfinity;
  *(row(3) + k - 1) = kNaN;
  *(row(4) + k / 2) = -kInfinity;
  std::fill_n(row(5), k, std::numeric_limits<float>::denorm_min());  // the scale underflows
  std::fill_n(row(6), k, -0.0f);
  for (int64_t i = 0; i < k; ++i) *(row(7) + i) = static_cast<float>(i % 255 - 127) / 2;  // ties
  return {.m = kRows,
          .k = k,
          .type = type,
          .x = as_type(x, type),
          .mul = smooth ? floats(k, 99) : std::vector<float>()};
}

Result run(const QuantizeRowsKernel& row, const Problem& p, int threads = 1) {
  const int64_t stride = padded_k(p.k);
  Result r{std::vector<int8_t>(static_cast<size_t>(p.m * stride), 77),
           std::vector<float>(static_cast<size_t>(p.m)),
           std::vector<int32_t>(static_cast<size_t>(p.m))};
  run_quantize_rows(row,
                    {.x = p.x.data(),
                     .x_type = p.type,
                     .x_stride = p.k + kPadding,
                     .mul = p.mul.empty() ? nullptr : p.mul.data(),
                     .k = p.k,
                     .element = p.element,
                     .fixed = p.fixed ? &*p.fixed : nullptr,
                     .q = r.q.data(),
                     .q_stride = stride,
                     .scale = r.scale.data(),
                     .sum = r.sum.data()},
                    p.m, ExecContext({.threads = threads}));
  return r;
}

class QuantizeRows : public testing::TestWithParam<const QuantizeRowsKernel*> {
 protected:
  void SetUp() override {
    if (row().isa > active_isa()) GTEST_SKIP() << row().name << " needs " << isa_name(row().isa);
  }
  const QuantizeRowsKernel& row() const { return *GetParam(); }
};

TEST_P(QuantizeRows, EqualsTheReferenceBitForBit) {
  const auto& reference = *testing_data::quantize_rows_row("quantize_rows/reference");
  for (int64_t k : {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 1023, 1024, 3072}) {
    for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      for (bool smooth : {false, true}) {
        Problem p = make_problem(k, type, smooth);
        EXPECT_EQ(run(row(), p), run(reference, p)) << k << " " << static_cast<int>(type) << smooth;
        p.element = Element::kInt4;
        EXPECT_EQ(run(row(), p), run(reference, p)) << "int4 " << k;
        p.element = Element::kInt8;
        // Odd zero points: ties go by the parity of x / scale + zero point.
        for (const StaticScale fixed : {StaticScale{0.5f, -5.0f}, {0.03f, 0.0f}, {1.0f, 127.0f}}) {
          p.fixed = fixed;
          EXPECT_EQ(run(row(), p), run(reference, p)) << "fixed " << k << " " << fixed.scale;
        }
      }
    }
  }
}

TEST_P(QuantizeRows, ComparisonSeesOneChangedInput) {
  const Problem p = make_problem(33, FloatType::kF32, false);
  Problem changed = p;
  auto* x = reinterpret_cast<float*>(changed.x.data());
  x[8 * (33 + kPadding) + 32] += 0.5f;
  EXPECT_FALSE(run(row(), p) == run(row(), changed));
}

TEST_P(QuantizeRows, RowsWithoutMeaningHaveScaleNaNAndZeroCodes) {
  const Problem p = make_problem(40, FloatType::kF32, false);
  const Result r = run(row(), p);
  for (size_t m : {2u, 3u, 4u}) EXPECT_TRUE(std::isnan(r.scale[m])) << m;
  for (size_t m : {1u, 6u}) EXPECT_EQ(r.scale[m], 0.0f) << m;
  for (size_t m : {1u, 2u, 3u, 4u, 6u}) {
    EXPECT_EQ(r.sum[m], 0);
    const auto begin = r.q.begin() + static_cast<int64_t>(m) * 64;
    EXPECT_EQ(std::count(begin, begin + 64, 0), 64) << m;
  }
}

TEST_P(QuantizeRows, StaticRowsAreRoundedAfterTheZeroPoint) {
  Problem p = {.m = 2, .k = 4, .type = FloatType::kF32, .x = {}, .mul = {}};
  p.x = as_type({0.1f, 2.5f, 1e9f, -1e9f, 0, 0, 0, 1.0f, kInfinity, 1, 1, 0, 0, 0}, p.type);
  p.fixed = StaticScale{.scale = 1.0f, .zero_point = 1.0f};
  const Result r = run(row(), p);
  EXPECT_EQ(std::vector<int8_t>(r.q.begin(), r.q.begin() + 4),
            (std::vector<int8_t>{1, 4, 127, -128}));  // rne(3.5) = 4; rne(2.5) + 1 = 3
  EXPECT_EQ(r.scale[0], 1.0f);
  EXPECT_TRUE(std::isnan(r.scale[1]));  // an infinity has no static code
  EXPECT_EQ(r.sum[1], 0);
}

TEST_P(QuantizeRows, PadsWithZerosAndSumsTheCodes) {
  const Problem p = make_problem(65, FloatType::kBF16, false);
  const Result r = run(row(), p);
  for (int64_t m = 0; m < p.m; ++m) {
    int32_t sum = 0;
    for (int64_t k = 0; k < 65; ++k) sum += r.q[static_cast<size_t>(m * 128 + k)];
    EXPECT_EQ(r.sum[static_cast<size_t>(m)], sum);
    for (int64_t k = 65; k < 128; ++k) ASSERT_EQ(r.q[static_cast<size_t>(m * 128 + k)], 0);
  }
}

TEST_P(QuantizeRows, GivesTheSameBitsForAnyNumberOfThreads) {
  Problem p = make_problem(48, FloatType::kF32, false);
  p.m = 100;
  p.x = as_type(floats(p.m * (p.k + kPadding), 4), p.type);
  const Result one = run(row(), p, 1);
  EXPECT_EQ(run(row(), p, 2), one);
  EXPECT_EQ(run(row(), p, 7), one);
}

std::vector<const QuantizeRowsKernel*> every_row() {
  std::vector<const QuantizeRowsKernel*> rows;
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) rows.push_back(&row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, QuantizeRows, testing::ValuesIn(every_row()), [](const auto& info) {
  return std::string(info.param->name.substr(info.param->name.find('/') + 1));
});

TEST(PaddedK, KeepsRowsOffTheSameCacheSet) {
  EXPECT_EQ(padded_k(1), 64);
  EXPECT_EQ(padded_k(960), 960);
  EXPECT_EQ(padded_k(1000), 1088);
  EXPECT_EQ(padded_k(3072), 3136);
}

}  // namespace
}  // namespace mezzotint
