// Rows against their reference on random shapes, scales, types and epilogues. Each seed is a case;
// to try new ones: kernels_test --gtest_filter='*RandomLinear*' --gtest_shuffle --gtest_repeat=100

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "kernels/linear_comparison.h"

namespace mezzotint {
namespace {

using namespace linear_problem;  // NOLINT(google-build-using-namespace): this file is about it

constexpr int kCases = 16;

// What one seed asks of a row.
struct RandomCase {
  Size size;
  FloatType type, y_type;
  Element element;
  Scales scales;
  int64_t groups = 0;
  bool has_bias;
  int threads;
};

class Dice {
 public:
  explicit Dice(uint32_t seed) : rng_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(rng_() % static_cast<uint64_t>(n)); }
  template <typename T>
  T one_of(const std::vector<T>& values) {
    return values[static_cast<size_t>(below(static_cast<int64_t>(values.size())))];
  }

 private:
  std::mt19937 rng_;
};

RandomCase random_case(const LinearKernel& row, uint32_t seed) {
  Dice dice(seed);
  const std::vector<FloatType> types = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};
  RandomCase c{};
  // Some rows serve at most 4 or 16 rows of x, one at least 121.
  c.size.m = 1 + dice.below(dice.one_of<int64_t>({4, 16, 40, 140}));
  c.size.n = 1 + dice.below(dice.one_of<int64_t>({16, 16, 70, 300}));
  c.type = dice.one_of(types);
  c.y_type = dice.one_of(types);
  c.element = dice.one_of(elements_of(row));
  c.scales = dice.one_of(scales_of(row));
  if (c.scales == Scales::kGroups) {
    c.groups = 2 + dice.below(7);
    c.size.k = c.groups * dice.one_of<int64_t>({1, 8, 24, 32, 64, 128});
  } else {
    c.size.k = 1 + dice.below(dice.one_of<int64_t>({40, 40, 300, 1300}));
  }
  c.has_bias = dice.below(2) == 1;
  c.threads = static_cast<int>(1 + dice.below(3));
  return c;
}

testing::Message describe(const RandomCase& c, uint32_t seed) {
  return testing::Message() << "seed " << seed << ": " << c.size.m << "x" << c.size.n << "x"
                            << c.size.k << " type " << static_cast<int>(c.type) << " y "
                            << static_cast<int>(c.y_type) << " element "
                            << static_cast<int>(c.element) << " scales "
                            << static_cast<int>(c.scales) << " groups " << c.groups;
}

class RandomLinear : public testing::TestWithParam<const LinearKernel*> {};

TEST_P(RandomLinear, AgreesWithTheReference) {
  const LinearKernel& row = *GetParam();
  if (row.isa > active_isa()) GTEST_SKIP() << row.name << " needs " << isa_name(row.isa);
  // GoogleTest 1.12 draws a seed whether it shuffles or not.
  const int drawn = GTEST_FLAG_GET(shuffle) ? testing::UnitTest::GetInstance()->random_seed() : 0;
  const auto base = static_cast<uint32_t>(drawn) * 1000;
  int served = 0;
  // Rows that decline most cases look further.
  for (uint32_t seed = base; seed < base + 60 * kCases && served < kCases; ++seed) {
    const RandomCase c = random_case(row, seed);
    const LinearQuery query = {
        c.size.m, c.size.n, c.size.k, c.type,
        scheme_of(c.element, c.scales, c.groups == 0 ? 0 : c.size.k / c.groups)};
    if (row.declines != nullptr && row.declines(query) != nullptr) continue;
    SCOPED_TRACE(describe(c, seed));
    const Problem p = make_problem(row, c.size, c.type, c.element, c.has_bias, c.scales, c.groups);
    const Output y = run(row, p, c.y_type, c.threads);
    const Output reference = run(reference_of(row), p, c.y_type);
    ASSERT_EQ(difference(p, row, y, reference), std::nullopt);
    ASSERT_TRUE(frame_untouched(y, c.size));
    ++served;
  }
  EXPECT_EQ(served, kCases);
}

// Of tiles, panels and vectors. 3 and 5 have no divisor in common with 14: every edge occurs once
// as m, as n and as k.
TEST_P(RandomLinear, AgreesOnEveryEdge) {
  const LinearKernel& row = *GetParam();
  if (row.isa > active_isa()) GTEST_SKIP() << row.name << " needs " << isa_name(row.isa);
  constexpr int64_t kEdges[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129};
  constexpr size_t kCount = std::size(kEdges);
  int served = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const Size size{kEdges[i], kEdges[(5 * i + 3) % kCount], kEdges[(3 * i + 7) % kCount]};
    for (const FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      const Problem p =
          make_problem(row, size, type, elements_of(row)[0], true, scales_of(row).front());
      if (row.weights == WeightForm::kGrouped && is_exact(row, p)) continue;  // one group
      if (!serves(row, p)) continue;
      SCOPED_TRACE(testing::Message() << size.m << "x" << size.n << "x" << size.k);
      ASSERT_EQ(difference(p, row, run(row, p, type), run(reference_of(row), p, type)),
                std::nullopt);
      ++served;
    }
  }
  EXPECT_GE(served, 2);
}

INSTANTIATE_TEST_SUITE_P(Table, RandomLinear, testing::ValuesIn(rows_to_compare()),
                         [](const auto& info) { return row_test_name(*info.param); });

}  // namespace
}  // namespace mezzotint
