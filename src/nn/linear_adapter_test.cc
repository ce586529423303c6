// An adapter's branch (LoRA) beside every form of weight: y += (x down^T) up^T with x as given.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "mezzotint/linear.h"
#include "nn/linear_state.h"
#include "nn/random_linear.h"
#include "quant/file_fixture.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kN = 70, kK = 96, kRank = 5;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_into(t, values);
  return values;
}

Tensor run(const Linear& linear, const Tensor& x) {
  Tensor y = Tensor::allocate(x.dtype(), {x.dim(0), linear.out_features()});
  linear.run({x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)},
             {y.buffer().mutable_data(), y.dtype(), y.dim(0), y.dim(1), y.dim(1)}, context());
  return y;
}

Linear with_adapter(const Linear& linear, const Tensor& down, const Tensor& up) {
  LinearState state = *linear.state();
  state.adapter_down = factor_state(down, state.isa);
  state.adapter_up = factor_state(up, state.isa);
  return {linear.name(), linear.out_features(), linear.in_features(),
          std::make_shared<const LinearState>(std::move(state))};
}

// The branch of element (m,n) and, of it, the sum of magnitudes.
struct BranchValue {
  double value = 0;
  double magnitude = 0;
};
BranchValue branch_value(const std::vector<float>& x, const std::vector<float>& down,
                         const std::vector<float>& up, int64_t m, int64_t n) {
  BranchValue sum;
  for (int64_t r = 0; r < kRank; ++r) {
    for (int64_t k = 0; k < kK; ++k) {
      const double product = double{x[static_cast<size_t>(m * kK + k)]} *
                             double{down[static_cast<size_t>(r * kK + k)]} *
                             double{up[static_cast<size_t>(n * kRank + r)]};
      sum.value += product;
      sum.magnitude += std::abs(product);
    }
  }
  return sum;
}

// Half an ulp of y, relative.
double rounding_of(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-8;
  return dtype == DType::kF16 ? 0x1p-11 : 0x1p-24;
}

// How many elements of y change by more than the branch and the roundings allow. Sums of K and of
// rank products in f32, in any order; either y is rounded once.
int64_t misses(const Tensor& x, const Tensor& plain, const Tensor& adapted, const Tensor& down,
               const Tensor& up) {
  const std::vector<float> xs = floats(x), downs = floats(down), ups = floats(up);
  const std::vector<float> before = floats(plain), after = floats(adapted);
  int64_t count = 0;
  for (int64_t m = 0; m < x.dim(0); ++m) {
    for (int64_t n = 0; n < kN; ++n) {
      const BranchValue branch = branch_value(xs, downs, ups, m, n);
      const double y = double{before[static_cast<size_t>(m * kN + n)]};
      const double made = double{after[static_cast<size_t>(m * kN + n)]};
      const double bound =
          1.01 * ((kK + kRank + 4) * 0x1p-24 * branch.magnitude +
                  (rounding_of(x.dtype()) + 0x1p-23) * (std::abs(y) + std::abs(made)));
      count += std::abs(made - y - branch.value) > bound ? 1 : 0;
    }
  }
  return count;
}

class LinearAdapter : public testing::TestWithParam<const char*> {};

TEST_P(LinearAdapter, AddsItsBranchOnEveryIsa) {
  std::mt19937_64 random(7);
  const Tensor down = normal_tensor(DType::kF32, {kRank, kK}, random);
  const Tensor up = normal_tensor(DType::kF32, {kN, kRank}, random);
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    const Linear linear =
        random_linear({.algorithm = GetParam(), .n = kN, .k = kK}, static_cast<Isa>(isa));
    const Linear adapted = with_adapter(linear, down, up);
    EXPECT_GT(adapted.resident_bytes(), linear.resident_bytes());
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const int64_t m : {1, 5, 300}) {
        const Tensor x = normal_tensor(dtype, {m, kK}, random);
        const Tensor plain = run(linear, x), y = run(adapted, x);
        EXPECT_EQ(misses(x, plain, y, down, up), 0) << dtype_name(dtype) << " m " << m;
      }
    }
  }
}

// The bound has teeth: a branch with one wrong factor breaks it.
TEST_P(LinearAdapter, OneWrongFactorBreaksTheBound) {
  std::mt19937_64 random(8);
  const Tensor down = normal_tensor(DType::kF32, {kRank, kK}, random);
  const Tensor up = normal_tensor(DType::kF32, {kN, kRank}, random);
  std::vector<float> wrong = floats(up);
  wrong[3] *= 1.5f;
  const Linear linear = random_linear({.algorithm = GetParam(), .n = kN, .k = kK}, active_isa());
  const Tensor x = normal_tensor(DType::kF32, {5, kK}, random);
  const Tensor y = run(with_adapter(linear, down, up), x);
  EXPECT_GT(misses(x, run(linear, x), y, down, Tensor::copy_of<float>(wrong, {kN, kRank})), 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, LinearAdapter,
                         testing::Values("float", "W8A16", "W4A16", "W8A8_DYNAMIC", "W8A8_MXFP8",
                                         "W4A4_MXFP4_SVD"));

}  // namespace
}  // namespace mezzotint
