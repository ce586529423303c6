#include "kernels/attention_op.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/float_attention_bound.h"

namespace mezzotint {
namespace {

using float_attention::difference;
using float_attention::Heads;
using float_attention::Problem;
using float_attention::run;
using testing_data::kGap;
using testing_data::make_attention;
using testing_data::Order;

Heads run(const Problem& p, int threads = 1) {
  return run(p, threads, choose_attention_kernel(AttentionForm::kFloat, p.q.type(), active_isa()));
}

// Around the query tile of 128 and the key tile of 256.
constexpr testing_data::AttentionSize kShapes[] = {
    {1, 1, 1, 1, 1, 64},    {1, 63, 255, 1, 1, 64}, {1, 64, 256, 2, 1, 72}, {1, 65, 257, 1, 1, 128},
    {2, 80, 80, 2, 2, 128}, {1, 3, 1000, 4, 2, 33}, {3, 129, 513, 2, 2, 1}, {1, 300, 700, 1, 1, 16},
};

TEST(FloatAttention, AgreesWithDoubleOnEveryTailTypeAndOrder) {
  for (const testing_data::AttentionSize& shape : kShapes) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (Order order : {Order::kBSHD, Order::kBHSD}) {
        SCOPED_TRACE(testing::Message() << shape.q_seq << "x" << shape.k_seq << " dim " << shape.dim
                                        << " " << dtype_name(dtype));
        const Problem p = make_attention(shape, dtype, order);
        for (const AttentionKernel& row : attention_kernels()) {
          if (row.isa > active_isa() || (row.operand != FloatType::kF32 && dtype == DType::kF32)) {
            continue;
          }
          EXPECT_EQ(difference(p, run(p, 1, row)), std::nullopt) << row.name;
        }
      }
    }
  }
}

TEST(FloatAttention, ComparisonSeesOneChangedValue) {
  const Problem p = make_attention({1, 5, 300, 2, 1, 32}, DType::kF32, Order::kBSHD);
  Problem changed = p;
  auto* v = reinterpret_cast<float*>(changed.v.bytes.data());
  v[299 * changed.v.view.seq_stride] += 1.0f;
  EXPECT_NE(difference(p, run(changed)), std::nullopt);
}

TEST(FloatAttention, WritesOnlyTheOutputColumns) {
  const Problem p = make_attention({1, 4, 9, 2, 2, 8}, DType::kF32, Order::kBSHD);
  const Heads out = run(p);
  const auto* before = reinterpret_cast<const float*>(p.q.bytes.data());
  const auto* after = reinterpret_cast<const float*>(out.bytes.data());
  for (int64_t i = 0; i < 4 * 2; ++i) {
    for (int64_t gap = 8; gap < 8 + kGap; ++gap) {
      EXPECT_EQ(after[i * (8 + kGap) + gap], before[i * (8 + kGap) + gap]);
    }
  }
}

TEST(FloatAttention, KvLengthLimitsTheKeysOfEachBatch) {
  Problem p = make_attention({4, 70, 300, 2, 1, 24}, DType::kF32, Order::kBSHD);
  p.kv_length = {300, 0, 1, 257};
  const Heads out = run(p);
  EXPECT_EQ(difference(p, out), std::nullopt);
  for (int64_t s = 0; s < 70; ++s) {
    for (int64_t d = 0; d < 24; ++d) {
      EXPECT_EQ(out.at(1, s, 0, d), 0.0f);                // no keys: zeros
      EXPECT_EQ(out.at(2, s, 1, d), p.v.at(2, 0, 0, d));  // one key: its value
    }
  }
}

TEST(FloatAttention, KeysBehindKvLengthAreNeverRead) {
  Problem p = make_attention({1, 6, 20, 1, 1, 8}, DType::kF32, Order::kBSHD);
  p.kv_length = {13};
  const Heads clean = run(p);
  for (Heads* heads : {&p.k, &p.v}) {
    auto* values = reinterpret_cast<float*>(heads->bytes.data());
    std::fill(values + 13 * heads->view.seq_stride, values + 20 * heads->view.seq_stride, NAN);
  }
  EXPECT_EQ(run(p).bytes, clean.bytes);
}

TEST(FloatAttention, LargeScoresNeitherOverflowNorVanish) {
  Problem p = make_attention({1, 8, 600, 1, 1, 64}, DType::kF32, Order::kBSHD);
  p.scale = 100.0f;  // scores of several thousand: one key dominates
  const Heads out = run(p);
  for (int64_t s = 0; s < 8; ++s) {
    int64_t best = 0;
    double best_score = -INFINITY;
    for (int64_t j = 0; j < 600; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < 64; ++d) {
        dot += static_cast<double>(p.q.at(0, s, 0, d)) * p.k.at(0, j, 0, d);
      }
      if (dot > best_score) best = j, best_score = dot;
    }
    EXPECT_NEAR(out.at(0, s, 0, 5), p.v.at(0, best, 0, 5), 1e-3);
  }
}

TEST(FloatAttention, EqualKeysGiveTheMeanOfTheValues) {
  Problem p = make_attention({1, 2, 512, 1, 1, 16}, DType::kF32, Order::kBSHD);
  std::fill(p.k.bytes.begin(), p.k.bytes.end(), std::byte{0});
  EXPECT_EQ(difference(p, run(p)), std::nullopt);
}

TEST(FloatAttention, ANaNInAQueryReachesItsRowOnly) {
  Problem p = make_attention({1, 4, 300, 1, 1, 16}, DType::kF32, Order::kBSHD);
  reinterpret_cast<float*>(p.q.bytes.data())[p.q.view.seq_stride] = NAN;
  const Heads out = run(p);
  EXPECT_TRUE(std::isnan(out.at(0, 1, 0, 3)));
  EXPECT_FALSE(std::isnan(out.at(0, 0, 0, 3)));
}

TEST(FloatAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const Problem p = make_attention({2, 150, 300, 4, 2, 64}, DType::kF32, Order::kBSHD);
  const Heads one = run(p, 1);
  EXPECT_EQ(run(p, 2).bytes, one.bytes);
  EXPECT_EQ(run(p, 7).bytes, one.bytes);
}

}  // namespace
}  // namespace mezzotint
