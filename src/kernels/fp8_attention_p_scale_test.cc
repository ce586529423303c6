// Which scale of the softmax's numerators is better, 1 or 448: the table of docs/numerics.md.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/attention_op.h"
#include "kernels/fp8_attention_oracle.h"

namespace mezzotint {
namespace {

using fp8_oracle::Distance;
using fp8_oracle::Operands;
using testing_data::Heads;
using testing_data::Order;
using Problem = testing_data::AttentionProblem;

constexpr int64_t kKeys = 4608;
constexpr int64_t kDim = 128;

// Adds one vector N(0, sigma^2) to all keys: scores move by the same for all keys of a query, but
// the scale of a block grows.
void add_channel_bias(Heads& k, float sigma) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  for (int64_t d = 0; d < kDim; ++d) {
    const float bias = sigma * normal(rng);
    for (int64_t s = 0; s < kKeys; ++s) k.set(0, s, 0, d, k.at(0, s, 0, d) + bias);
  }
}

// One key that scores `lead` above the average of the others with every query.
void add_sink(Problem& p, float lead) {
  for (int64_t s = 0; s < p.q.view.seq; ++s) p.q.set(0, s, 0, 0, 8.0f);
  for (int64_t s = 0; s < kKeys; ++s) p.k.set(0, s, 0, 0, 0.0f);
  p.k.set(0, 17, 0, 0, lead / (8.0f * p.scale));
}

struct Errors {
  double numerators;  // against exact softmax of the dequantized operands
  double whole;       // against exact attention
};

Errors errors_of(Problem p, const std::vector<float>& rotation, float p_scale) {
  Heads out = p.q;
  run_attention(p.q.with_data(), p.k.with_data(), p.v.with_data(), out.with_data(), {p.scale, {}},
                {.form = AttentionForm::kFp8,
                 .q_rot = {.matrix = rotation.data()},
                 .k_rot = {.matrix = rotation.data()},
                 .p_scale = p_scale},
                choose_attention_kernel(AttentionForm::kFp8, FloatType::kF32, active_isa()),
                ExecContext({.threads = 1}));
  const fp8_oracle::Head head = fp8_oracle::make_head(p, rotation, rotation, 0, 0);
  Distance numerators, whole;
  for (int64_t s = 0; s < p.q.view.seq; ++s) {
    const auto dequantized = fp8_oracle::exact_row(head, s, Operands::kDequantized);
    const auto given = fp8_oracle::exact_row(head, s, Operands::kAsGiven);
    for (int64_t d = 0; d < kDim; ++d) {
      numerators.add(out.at(0, s, 0, d), dequantized.out[static_cast<size_t>(d)]);
      whole.add(out.at(0, s, 0, d), given.out[static_cast<size_t>(d)]);
    }
  }
  return {numerators.relative(), whole.relative()};
}

Problem head() {
  return testing_data::make_attention({1, 16, kKeys, 1, 1, kDim}, DType::kF32, Order::kBSHD);
}

// The table's numbers hold within a tenth.
void expect_errors(const Problem& p, Errors one, Errors large) {
  const std::vector<float> rotation = fp8_oracle::orthogonal(kDim, 9);
  for (const float p_scale : {1.0f, 448.0f}) {
    const Errors want = p_scale == 1.0f ? one : large;
    const Errors got = errors_of(p, rotation, p_scale);
    EXPECT_NEAR(got.numerators, want.numerators, 0.1 * want.numerators) << "P scale " << p_scale;
    EXPECT_NEAR(got.whole, want.whole, 0.1 * want.whole) << "P scale " << p_scale;
  }
}

TEST(SlowFp8AttentionPScale, BothAreAlikeOnKeysWithAChannelBias) {
  const struct {
    float sigma;
    Errors one, large;
  } heads[] = {{0, {0.0256, 0.0553}, {0.0247, 0.0556}},
               {1, {0.0255, 0.0585}, {0.0243, 0.0572}},
               {3, {0.0246, 0.101}, {0.0235, 0.101}},
               {10, {0.0246, 0.311}, {0.0243, 0.311}}};
  for (const auto& row : heads) {
    SCOPED_TRACE(row.sigma);
    Problem p = head();
    add_channel_bias(p.k, row.sigma);
    expect_errors(p, row.one, row.large);
  }
}

TEST(SlowFp8AttentionPScale, TheLargeOneSavesWhatStandsBesideASink) {
  Problem p = head();
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
