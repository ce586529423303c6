// Sums of int8 and int4 products are those of int64, whatever k and the codes are: y of a layer
// whose scales are 1 is the sum, rounded once.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <tuple>
#include <vector>

#include "base/cpu_features.h"
#include "nn/linear_state.h"
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

Linear layer_of(const char* algorithm, const Codes& codes, Isa isa) {
  const Tensor weight = Tensor::copy_of<int8_t>(codes.w, {kN, codes.k});
  const Tensor scale = Tensor::copy_of<float>(std::vector<float>(kN, 1.0f), {kN, 1});
  const LayerFile file = {.layer = "l",
                          .prefix = "l",
                          .file = "memory",
                          .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                            if (name == "l.weight") return weight;
                            if (name == "l.weight_scale") return scale;
                            return std::nullopt;
                          },
                          .dims = {.n = kN, .k = codes.k}};
  return Linear("l", kN, codes.k,
                make_linear_state(read_layer_params(*find_algorithm(algorithm), file), isa));
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

TEST_P(IntegerSums, AreThoseOfInt64OnEveryIsa) {
  const auto& [algorithm, k] = GetParam();
  const bool is_int4 = std::string_view(algorithm) == "W4A4_DYNAMIC";
  constexpr int64_t kM = 5;
  const Codes codes = make_codes(kM, k, is_int4 ? 7 : 127);
  const std::vector<float> x(codes.x.begin(), codes.x.end());  // amax = most: the scale is 1
  const ExecContext ctx({.threads = 2});
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    const Linear linear = layer_of(algorithm, codes, static_cast<Isa>(isa));
    std::vector<float> y(static_cast<size_t>(kM * kN));
    linear.run({x.data(), DType::kF32, kM, k, k}, {y.data(), DType::kF32, kM, kN, kN}, ctx);
    for (int64_t m = 0; m < kM; ++m) {
      for (int64_t n = 0; n < kN; ++n) {
        ASSERT_EQ(y[static_cast<size_t>(m * kN + n)], static_cast<float>(exact_sum(codes, m, n)))
            << linear.kernel(kM) << " m " << m << " n " << n;
      }
    }
  }
}

// 65794 is the first k of which the rows with offsets of 128 could overflow, 132105 that of the
// others: more than 2^31 in magnitude.
INSTANTIATE_TEST_SUITE_P(LargeK, IntegerSums,
                         testing::Combine(testing::Values("W8A8_DYNAMIC", "W4A4_DYNAMIC"),
                                          testing::Values<int64_t>(4096, 65536, 65793, 65794,
                                                                   132104, 132105)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + std::string("_") +
                                  std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace mezzotint
