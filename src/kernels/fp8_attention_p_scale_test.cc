// Which scale of the softmax's numerators is better, 1 or 448: the table of docs/numerics.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "kernels/fp8_attention_tiers.h"

namespace mezzotint {
namespace {

using fp8_oracle::Distance;
using fp8_oracle::Operands;
using testing_data::Heads;
using testing_data::Order;
using Problem = testing_data::AttentionProblem;

constexpr int64_t kKeys = 4608;
constexpr int64_t kDim = 128;
constexpr int64_t kQueries = 16;

// Adds to all keys of every head one vector N(0, sigma^2) of its own: scores move by the same for
// all keys of a query, but the scale of a block grows.
void add_channel_bias(Heads& k, float sigma) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  for (int64_t h = 0; h < k.view.heads; ++h) {
    for (int64_t d = 0; d < kDim; ++d) {
      const float bias = sigma * normal(rng);
      for (int64_t s = 0; s < kKeys; ++s) k.set(0, s, h, d, k.at(0, s, h, d) + bias);
    }
  }
}

// One key that scores `lead` above the average of the others with every query.
void add_sink(Problem& p, float lead) {
  for (int64_t s = 0; s < p.q.view.seq; ++s) p.q.set(0, s, 0, 0, 8.0f);
  for (int64_t s = 0; s < kKeys; ++s) p.k.set(0, s, 0, 0, 0.0f);
  p.k.set(0, 17, 0, 0, lead / (8.0f * p.scale));
}

struct Errors {
  double numerators = 0;  // against exact softmax of the dequantized operands
  double whole = 0;       // against exact attention
};

// Exact rows of a head, by what they are exact of.
struct ExactHead {
  std::vector<std::vector<double>> dequantized, given;
};
std::vector<ExactHead> exact_heads(const Problem& p, const std::vector<float>& rotation) {
  std::vector<ExactHead> heads;
  for (int64_t h = 0; h < p.q.view.heads; ++h) {
    const fp8_oracle::Head head = fp8_oracle::make_head(p, rotation, rotation, 0, h);
    ExactHead exact;
    for (int64_t s = 0; s < kQueries; ++s) {
      exact.dequantized.push_back(fp8_oracle::exact_row(head, s, Operands::kDequantized).out);
      exact.given.push_back(fp8_oracle::exact_row(head, s, Operands::kAsGiven).out);
    }
    heads.push_back(std::move(exact));
  }
  return heads;
}

// Of the worst head, for either distance.
Errors errors_of(const Problem& p, const std::vector<ExactHead>& exact,
                 const std::vector<float>& rotation, float p_scale) {
  const Heads out = fp8_oracle::run(p, {rotation, rotation}, p_scale, 2);
  Errors worst;
  for (size_t h = 0; h < exact.size(); ++h) {
    Distance numerators, whole;
    for (size_t s = 0; s < kQueries; ++s) {
      for (size_t d = 0; d < kDim; ++d) {
        const double got =
            out.at(0, static_cast<int64_t>(s), static_cast<int64_t>(h), static_cast<int64_t>(d));
        numerators.add(got, exact[h].dequantized[s][d]);
        whole.add(got, exact[h].given[s][d]);
      }
    }
    worst.numerators = std::max(worst.numerators, numerators.relative());
    worst.whole = std::max(worst.whole, whole.relative());
  }
  return worst;
}

Problem make_heads_of_keys(int64_t heads) {
  return testing_data::make_attention({1, kQueries, kKeys, heads, heads, kDim}, DType::kF32,
                                      Order::kBSHD);
}

// The table's numbers hold within a tenth.
void expect_errors(const Problem& p, Errors one, Errors large) {
  const std::vector<float> rotation = fp8_oracle::orthogonal(kDim, 9);
  const std::vector<ExactHead> exact = exact_heads(p, rotation);
  for (const float p_scale : {1.0f, 448.0f}) {
    const Errors want = p_scale == 1.0f ? one : large;
    const Errors got = errors_of(p, exact, rotation, p_scale);
    EXPECT_NEAR(got.numerators, want.numerators, 0.1 * want.numerators) << "P scale " << p_scale;
    EXPECT_NEAR(got.whole, want.whole, 0.1 * want.whole) << "P scale " << p_scale;
  }
}

TEST(SlowFp8AttentionPScale, BothAreAlikeOnKeysWithAChannelBias) {
  constexpr int64_t kHeads = 4;
  const struct {
    float sigma;
    Errors one, large;
  } rows[] = {{0, {0.0272, 0.0568}, {0.0260, 0.0571}},
              {1, {0.0263, 0.0637}, {0.0262, 0.0642}},
              {3, {0.0268, 0.1031}, {0.0263, 0.1024}},
              {10, {0.0265, 0.292}, {0.0263, 0.292}}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.sigma);
    Problem p = make_heads_of_keys(kHeads);
    add_channel_bias(p.k, row.sigma);
    expect_errors(p, row.one, row.large);
  }
}

TEST(SlowFp8AttentionPScale, TheLargeOneSavesWhatStandsBesideASink) {
  Problem p = make_heads_of_keys(1);
  add_sink(p, 8.0f);
  expect_errors(p, {0.0220, 0.0546}, {0.00155, 0.0505});
  // Keys that hardly differ, values with a mean: all numerators but one are about e^-8, less than
  // half of the smallest e4m3, so that with scale 1 their share of the output is lost: 0.6 of it.
  for (int64_t s = 0; s < kKeys; ++s) {
    for (int64_t d = 1; d < kDim; ++d) p.k.set(0, s, 0, d, 0.1f * p.k.at(0, s, 0, d));
    for (int64_t d = 0; d < kDim; ++d) p.v.set(0, s, 0, d, 1.0f + p.v.at(0, s, 0, d));
  }
  expect_errors(p, {0.604, 0.602}, {0.00048, 0.0210});
}

}  // namespace
}  // namespace mezzotint
