// Sums of int8 and int4 products are those of int64, whatever k and the codes are: y of a layer
// whose scales are 1 is the sum, rounded once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/cpu_features.h"
#include "mezzotint/error.h"
#include "nn/linear_state.h"
#include "numerics/int8.h"
#include "quant/algorithm.h"

namespace mezzotint {
namespace {

constexpr int64_t kN = 33;

struct Codes {
  int64_t k;
  int8_t least;
  int8_t most;
  std::vector<int8_t> x;  // [m,k], in [-most, most], with its amax in every row
  std::vector<int8_t> w;  // [kN,k]
};

// Rows that reach the largest sums of both signs, then random ones.
Codes make_codes(int64_t m, int64_t k, int8_t most) {
  Codes codes = {.k = k, .least = static_cast<int8_t>(-most - 1), .most = most, .x = {}, .w = {}};
  std::mt19937_64 random(65536);
  const auto in = [&](int low) {
    return static_cast<int8_t>(low +
                               static_cast<int>(random() % static_cast<uint64_t>(most - low + 1)));
  };
  for (int64_t i = 0; i < m * k; ++i) codes.x.push_back(i < k ? most : in(-most));
  for (int64_t i = 0; i < m; ++i) codes.x[static_cast<size_t>(i * k)] = most;
  for (int64_t i = 0; i < kN * k; ++i) {
    codes.w.push_back(i < k ? codes.least : i < 2 * k ? most : in(codes.least));
  }
  return codes;
}

// A layer "l" of these codes, whose scales are 1.
LinearParams params_of(const char* algorithm, const Codes& codes, int64_t groups = 0) {
  const Tensor weight = Tensor::copy_of<int8_t>(codes.w, {kN, codes.k});
  const std::vector<float> ones(static_cast<size_t>(kN * std::max<int64_t>(groups, 1)), 1.0f);
  const Tensor scale = Tensor::copy_of<float>(ones, {kN, static_cast<int64_t>(ones.size()) / kN});
  const LayerFile file = {.layer = "l",
                          .prefix = "l",
                          .file = "memory",
                          .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                            if (name == "l.weight") return weight;
                            if (name == "l.weight_scale") return scale;
                            return std::nullopt;
                          },
                          .dims = {.n = kN, .k = codes.k, .groups = groups}};
  return read_layer_params(*find_algorithm(algorithm), file);
}

int64_t exact_sum(const Codes& codes, int64_t m, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < codes.k; ++i) {
    sum += int64_t{codes.x[static_cast<size_t>(m * codes.k + i)]} *
           codes.w[static_cast<size_t>(n * codes.k + i)];
  }
  return sum;
}

class IntegerSums : public testing::TestWithParam<std::tuple<const char*, int64_t>> {};

void expect_exact_sums(const LinearParams& params, const Codes& codes, int64_t m_rows) {
  const std::vector<float> x(codes.x.begin(), codes.x.end());  // amax = most: the scale is 1
  const ExecContext ctx({.threads = 2});
  const int64_t k = codes.k;
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    const Linear linear("l", kN, k, make_linear_state(params, static_cast<Isa>(isa)));
    std::vector<float> y(static_cast<size_t>(m_rows * kN));
    linear.run({x.data(), DType::kF32, m_rows, k, k}, {y.data(), DType::kF32, m_rows, kN, kN}, ctx);
    for (int64_t m = 0; m < m_rows; ++m) {
      for (int64_t n = 0; n < kN; ++n) {
        ASSERT_EQ(y[static_cast<size_t>(m * kN + n)], static_cast<float>(exact_sum(codes, m, n)))
            << linear.kernel(m_rows) << " m " << m << " n " << n;
      }
    }
  }
}

TEST_P(IntegerSums, AreThoseOfInt64OnEveryIsa) {
  const auto& [algorithm, k] = GetParam();
  const bool is_int4 = std::string_view(algorithm) == "W4A4_DYNAMIC";
  constexpr int64_t kM = 5;
  const Codes codes = make_codes(kM, k, is_int4 ? 7 : 127);
  expect_exact_sums(params_of(algorithm, codes), codes, kM);
}

// 127 * 8 in every product of a lane of 16 bits: what saturates first on AVX2. Float sums of groups
// are exact, as all stay below 2^24.
TEST(IntegerSumsOfGroups, OfInt8AndInt4AreThoseOfInt64OnEveryIsa) {
  constexpr int64_t kK = 4096, kGroups = kK / 64;
  for (const int64_t m : {5, 16, 130}) {
    Codes codes = make_codes(m, kK, 127);
    codes.w = make_codes(1, kK, 7).w;
    expect_exact_sums(params_of("W4A8_AWQ", codes, kGroups), codes, m);
  }
}

INSTANTIATE_TEST_SUITE_P(LargeK, IntegerSums,
                         testing::Combine(testing::Values("W8A8_DYNAMIC", "W4A4_DYNAMIC"),
                                          testing::Values<int64_t>(4096, kIntegerSumMaxK)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + std::string("_") +
                                  std::to_string(std::get<1>(info.param));
                         });

class LongerSums : public testing::TestWithParam<const char*> {
 protected:
  static constexpr int64_t kTooLong = kIntegerSumMaxK + 1;

  static void expect_refusal(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_EQ(error.details().layer, "l");
      EXPECT_EQ(error.details().expected, "K of at most 65536");
      EXPECT_EQ(error.details().found, "K = 65537");
      EXPECT_TRUE(error.details().fix.find("W8A16") != std::string::npos) << error.what();
      EXPECT_TRUE(std::string(error.what()).find(GetParam()) != std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "not refused";
  }
};

TEST_P(LongerSums, AreRefusedWhenAFileIsRead) {
  const Codes codes = make_codes(1, kTooLong, 7);
  expect_refusal([&] { params_of(GetParam(), codes); });
}

TEST_P(LongerSums, AreRefusedWhenAFileIsPlanned) {
  const AlgorithmRow& row = *find_algorithm(GetParam());
  const auto plan = [&](int64_t k) {
    return plan_layer_tensors(row, "l", {.n = 1, .k = k, .steps = 1}, HasBias::kNo);
  };
  EXPECT_FALSE(plan(kIntegerSumMaxK).empty());
  expect_refusal([&] { plan(kTooLong); });
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LongerSums, testing::Values("W8A8_DYNAMIC", "W4A4_DYNAMIC"),
                         [](const auto& info) { return std::string(info.param); });

// Every other algorithm: float sums, or sums of products with powers of two.
TEST(LongerSumsElsewhere, AreServed) {
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract == nullptr) continue;
    const Element x = row.contract->activation.element;
    const bool integer = row.contract->mode != ActivationMode::kFloat &&
                         (x == Element::kInt8 || x == Element::kInt4);
    const auto plan = [&] {
      const LayerDims dims = written_dims(row, 1, kIntegerSumMaxK + 1, {.steps = 1});
      plan_layer_tensors(row, "l", dims, HasBias::kNo);
    };
    if (integer) {
      EXPECT_THROW(plan(), Error) << row.name;
    } else {
      EXPECT_NO_THROW(plan()) << row.name;
    }
  }
}

}  // namespace
}  // namespace mezzotint
