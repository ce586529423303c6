#include "kernels/float_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/test_data.h"

namespace mezzotint {
namespace {

using testing_data::floats;

constexpr double kEps = 0x1p-24;  // half an ulp of 1

class AddProductOf : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > active_isa()) GTEST_SKIP() << "needs " << isa_name(GetParam());
  }
};

enum class Side : uint8_t { kPlain, kTransposed };

// a, b and c with gaps between rows; the gaps of c hold a mark.
struct Operands {
  static constexpr int64_t kGap = 3;
  static constexpr float kMark = 77.0f;

  Operands(int64_t rows, int64_t steps, int64_t columns, Side side)
      : a(floats((rows + kGap) * (steps + kGap), 1)),
        b(floats(steps * (columns + kGap), 2)),
        c(floats(rows * (columns + kGap), 3)) {
    product = {.a = a.data(),
               .a_row = side == Side::kPlain ? steps + kGap : 1,
               .a_step = side == Side::kPlain ? 1 : rows + kGap,
               .b = b.data(),
               .b_step = columns + kGap,
               .c = c.data(),
               .c_row = columns + kGap,
               .rows = rows,
               .steps = steps,
               .columns = columns};
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = columns; j < columns + kGap; ++j) {
        c[static_cast<size_t>(i * (columns + kGap) + j)] = kMark;
      }
    }
  }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  std::vector<float> a, b, c;
  FloatProduct product;
};

// Of every element: is |got - want| <= (steps + 2) eps (|c| + sum |a b|)? How many are not.
int64_t wrong_elements(const Operands& given, const std::vector<float>& got) {
  const FloatProduct& t = given.product;
  int64_t wrong = 0;
  for (int64_t i = 0; i < t.rows; ++i) {
    for (int64_t j = 0; j < t.c_row; ++j) {
      const auto at = static_cast<size_t>(i * t.c_row + j);
      double want = given.c[at], magnitude = std::fabs(want);
      for (int64_t s = 0; j < t.columns && s < t.steps; ++s) {
        const double term = double{given.a[static_cast<size_t>(i * t.a_row + s * t.a_step)]} *
                            given.b[static_cast<size_t>(s * t.b_step + j)];
        want += term;
        magnitude += std::fabs(term);
      }
      const double bound =
          j < t.columns ? static_cast<double>(t.steps + 2) * kEps * magnitude + 1e-37 : 0;
      if (!(std::fabs(got[at] - want) <= bound)) ++wrong;
    }
  }
  return wrong;
}

std::vector<float> product_of(Isa isa, const Operands& given) {
  std::vector<float> c = given.c;
  FloatProduct t = given.product;
  t.c = c.data();
  add_product(isa)(t);
  return c;
}

// Every count of rows up to four tiles of 6, every kind of rest of columns.
TEST_P(AddProductOf, IsTheSumOfProductsAndTouchesNothingElse) {
  int checked = 0;
  for (const Side side : {Side::kPlain, Side::kTransposed}) {
    for (int64_t rows = 1; rows <= 25; ++rows) {
      for (const int64_t columns : {1, 15, 16, 17, 32, 33, 48, 63}) {
        for (const int64_t steps : {0, 1, 7, 48}) {
          const Operands given(rows, steps, columns, side);
          ASSERT_EQ(wrong_elements(given, product_of(GetParam(), given)), 0)
              << rows << " " << columns << " " << steps;
          ++checked;
        }
      }
    }
  }
  EXPECT_EQ(checked, 2 * 25 * 8 * 4);
}

TEST_P(AddProductOf, CheckSeesOneWrongTerm) {
  const Operands given(13, 48, 33, Side::kPlain);
  std::vector<float> got = product_of(GetParam(), given);
  got[static_cast<size_t>(12 * given.product.c_row + 32)] *= 1.0f + 0x1p-10f;
  EXPECT_EQ(wrong_elements(given, got), 1);
}

TEST_P(AddProductOf, GivesTheBitsOfFusedSumsInOrder) {
  if (GetParam() == Isa::kPortable) GTEST_SKIP() << "rounds products and sums";
  for (const Side side : {Side::kPlain, Side::kTransposed}) {
    const Operands given(14, 60, 49, side);
    const FloatProduct& t = given.product;
    const std::vector<float> got = product_of(GetParam(), given);
    for (int64_t i = 0; i < t.rows; ++i) {
      for (int64_t j = 0; j < t.columns; ++j) {
        const auto at = static_cast<size_t>(i * t.c_row + j);
        float sum = given.c[at];
        for (int64_t s = 0; s < t.steps; ++s) {
          sum = std::fma(t.a[i * t.a_row + s * t.a_step], t.b[s * t.b_step + j], sum);
        }
        ASSERT_EQ(got[at], sum) << i << " " << j;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, AddProductOf,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512Bf16),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace mezzotint
