#include "kernels/attention_op.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/fp8_attention_tiers.h"

namespace mezzotint {
namespace {

using fp8_oracle::best_row;
using fp8_oracle::compare;
using fp8_oracle::Distance;
using fp8_oracle::expect_tiers;
using fp8_oracle::Head;
using fp8_oracle::Rotations;
using fp8_oracle::run;
using fp8_oracle::same_rotation;
using fp8_oracle::Tiers;
using testing_data::Heads;
using testing_data::kGap;
using testing_data::make_attention;
using testing_data::Order;
using Problem = testing_data::AttentionProblem;

constexpr int64_t kLengths[] = {1, 127, 128, 129, 255, 256, 257, 1000};

TEST(Fp8Attention, MeetsTheThreeTiersAtEveryLengthAndHeadDim) {
  for (const int64_t dim : {64, 72, 96, 128}) {
    const Rotations rotation = same_rotation(dim);
    for (const int64_t seq : kLengths) {
      const DType dtype = (seq + dim) % 2 == 0 ? DType::kF32 : DType::kBF16;
      SCOPED_TRACE(testing::Message() << seq << " keys, dim " << dim << " " << dtype_name(dtype));
      const Problem p = make_attention({1, seq, seq, 1, 1, dim}, dtype, Order::kBSHD);
      const Tiers t = compare(p, rotation, run(p, rotation));
      expect_tiers(t, dtype);
    }
  }
}

TEST(Fp8Attention, TheFirstTierSeesOneWrongScaleOrRotationEntry) {
  const Problem p = make_attention({1, 300, 300, 1, 1, 64}, DType::kF32, Order::kBSHD);
  const Rotations rotation = same_rotation(64);
  const Heads out = run(p, rotation);
  EXPECT_LE(compare(p, rotation, out).emulated.relative(), 5e-4);
  EXPECT_GT(compare(p, rotation, out, {.k_scale_factor = 1.5}).emulated.relative(), 0.01);
  EXPECT_GT(compare(p, rotation, out, {.v_scale_factor = 1.5}).emulated.relative(), 0.01);
  EXPECT_GT(compare(p, rotation, out, {.p_scale = 448}).emulated.relative(), 1e-3);
  Rotations wrong = rotation;
  wrong.k[100] += 0.1f;
  EXPECT_GT(compare(p, rotation, run(p, wrong)).emulated.relative(), 5e-4);
}

TEST(Fp8Attention, EveryRowOfTheOpMeetsTheTiersWithEitherScaleOfP) {
  const Problem p = make_attention({1, 60, 300, 2, 1, 72}, DType::kF32, Order::kBSHD);
  const Rotations rotation = same_rotation(72);
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > active_isa()) continue;
    for (const float p_scale : {1.0f, 448.0f}) {
      SCOPED_TRACE(testing::Message() << row.name << ", P scale " << p_scale);
      expect_tiers(compare(p, rotation, run(p, rotation, p_scale, 1, row), {.p_scale = p_scale}),
                   DType::kF32);
    }
  }
}

TEST(Fp8Attention, BothOrdersOfStridesGiveTheSameValues) {
  const Rotations rotation = same_rotation(96);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Problem p = make_attention({2, 150, 300, 4, 2, 96}, dtype, Order::kBSHD);
    p.kv_length = {300, 257};
    const Heads out = run(p, rotation);
    for (Heads* heads : {&p.q, &p.k, &p.v}) *heads = reordered(*heads, Order::kBHSD);
    const Heads turned = run(p, rotation);
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t s = 0; s < 150; ++s) {
        for (int64_t h = 0; h < 4; ++h) {
          for (int64_t d = 0; d < 96; ++d) ASSERT_EQ(turned.at(b, s, h, d), out.at(b, s, h, d));
        }
      }
    }
  }
}

TEST(Fp8Attention, GroupsOfHeadsShareKeysInEveryBatch) {
  Problem p = make_attention({2, 40, 270, 6, 2, 64}, DType::kF32, Order::kBHSD);
  const Rotations rotation = same_rotation(64);
  expect_tiers(compare(p, rotation, run(p, rotation)), DType::kF32);
}

TEST(Fp8Attention, KvLengthLimitsTheKeysOfEachBatch) {
  Problem p = make_attention({4, 70, 300, 2, 1, 24}, DType::kF32, Order::kBSHD);
  p.kv_length = {300, 0, 1, 257};
  const Rotations rotation = same_rotation(24);
  const Heads out = run(p, rotation);
  expect_tiers(compare(p, rotation, out), DType::kF32);
  for (int64_t s = 0; s < 70; ++s) {
    for (int64_t d = 0; d < 24; ++d) EXPECT_EQ(out.at(1, s, 0, d), 0.0f);  // no keys: zeros
  }
}

TEST(Fp8Attention, KeysBehindKvLengthAreNeverRead) {
  Problem p = make_attention({1, 6, 300, 1, 1, 8}, DType::kF32, Order::kBSHD);
  p.kv_length = {270};
  const Rotations rotation = same_rotation(8);
  const Heads clean = run(p, rotation);
  for (Heads* heads : {&p.k, &p.v}) {
    for (int64_t s = 270; s < 300; ++s) {
      for (int64_t d = 0; d < 8; ++d) heads->set(0, s, 0, d, NAN);
    }
  }
  EXPECT_EQ(run(p, rotation).bytes, clean.bytes);
}

TEST(Fp8Attention, EqualKeysGiveTheMeanOfTheValues) {
  Problem p = make_attention({1, 3, 512, 1, 1, 64}, DType::kF32, Order::kBSHD);
  for (int64_t s = 0; s < 512; ++s) {
    for (int64_t d = 0; d < 64; ++d) p.k.set(0, s, 0, d, 0.25f);
  }
  const Rotations rotation = same_rotation(64);
  const Heads out = run(p, rotation);
  // Every numerator is exactly 1: what differs from the mean is e4m3 of v.
  const Head head = fp8_oracle::make_head(p, rotation.q, rotation.k, 0, 0);
  for (int64_t d = 0; d < 64; ++d) {
    double mean = 0;
    for (int64_t s = 0; s < 512; ++s) mean += head.v8.value(s, d) / 512;
    EXPECT_NEAR(out.at(0, 1, 0, d), mean, 1e-6);
  }
  expect_tiers(compare(p, rotation, out), DType::kF32);
}

TEST(Fp8Attention, ADominatingKeyGivesItsValue) {
  Problem p = make_attention({1, 8, 600, 1, 1, 64}, DType::kF32, Order::kBSHD);
  for (int64_t s = 0; s < 8; ++s) {
    for (int64_t d = 0; d < 64; ++d) p.q.set(0, s, 0, d, p.k.at(0, 411, 0, d));
  }
  p.scale = 2.0f;  // key 411 scores about 128, the others below 60
  const Rotations rotation = same_rotation(64);
  const Heads out = run(p, rotation);
  const Head head = fp8_oracle::make_head(p, rotation.q, rotation.k, 0, 0);
  for (int64_t s = 0; s < 8; ++s) {
    for (int64_t d = 0; d < 64; ++d) {
      EXPECT_NEAR(out.at(0, s, 0, d), head.v8.value(411, d), 1e-6);
      EXPECT_NEAR(out.at(0, s, 0, d), p.v.at(0, 411, 0, d), 0x1p-4 * 4);
    }
  }
}

TEST(Fp8Attention, OneRotationOfBothKeepsTheScores) {
  const Problem p = make_attention({1, 100, 400, 1, 1, 64}, DType::kF32, Order::kBSHD);
  const Rotations none = {fp8_oracle::identity(64), fp8_oracle::identity(64)};
  const Rotations rotation = same_rotation(64);
  Rotations transposed = rotation;
  for (size_t i = 0; i < 64; ++i) {
    for (size_t j = 0; j < 64; ++j) transposed.q[i * 64 + j] = rotation.q[j * 64 + i];
  }
  const Rotations mixed = {rotation.q, transposed.q};
  transposed.k = transposed.q;
  for (const Rotations& r : {none, rotation, transposed}) {
    EXPECT_GE(compare(p, r, run(p, r)).given.cosine(), 0.99);
  }
  EXPECT_NE(run(p, rotation).bytes, run(p, transposed).bytes);  // x R, not x R^T
  EXPECT_LT(compare(p, mixed, run(p, mixed)).given.cosine(), 0.8);
}

TEST(Fp8Attention, AFastTransformIsTheRotationByItsMatrix) {
  for (const int64_t dim : {64, 128}) {
    std::mt19937 rng(3);
    std::vector<float> matrix, before, after(static_cast<size_t>(dim), 0.125f);
    for (int64_t i = 0; i < dim; ++i) before.push_back(rng() % 2 == 0 ? 1.0f : -1.0f);
    for (int64_t i = 0; i < dim; ++i) {
      for (int64_t j = 0; j < dim; ++j) {
        const float sign = __builtin_parityll(static_cast<uint64_t>(i & j)) != 0 ? -1.0f : 1.0f;
        matrix.push_back(sign * before[static_cast<size_t>(i)] * 0.125f);
      }
    }
    Problem p = make_attention({1, 140, 300, 1, 1, dim}, DType::kF32, Order::kBSHD);
    p.scale /= static_cast<float>(dim) / 64.0f;  // R R^T = dim / 64
    Heads out = p.q;
    const Rotation r = {matrix.data(), before.data(), after.data()};
    run_attention(p.q.with_data(), p.k.with_data(), p.v.with_data(), out.with_data(), {p.scale, {}},
                  {.form = AttentionForm::kFp8, .q_rot = r, .k_rot = r}, best_row(),
                  ExecContext({.threads = 1}));
    const Tiers t = compare(p, {matrix, matrix}, out);
    EXPECT_LE(t.emulated.relative(), 5e-4);
    EXPECT_LE(t.over_bound, 0.0);
    Rotations other = {matrix, matrix};
    for (size_t i = 0; i < static_cast<size_t>(dim); ++i) other.q[i] = -other.q[i];
    EXPECT_GT(compare(p, other, out).emulated.relative(), 0.01);
  }
}

TEST(Fp8Attention, ANegativeScaleTurnsTheScores) {
  Problem p = make_attention({1, 20, 300, 1, 1, 64}, DType::kF32, Order::kBSHD);
  p.scale = -p.scale;
  const Rotations rotation = same_rotation(64);
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > active_isa()) continue;
    expect_tiers(compare(p, rotation, run(p, rotation, 1.0f, 1, row)), DType::kF32);
  }
}

TEST(Fp8Attention, MoreHeadsThanOnePackingHoldsGiveTheSame) {
  // 20 heads of 4 MB: k and v are packed 12 heads at a time or fewer.
  const int64_t heads = 20, keys = 4000;
  const Problem p = make_attention({1, 1, keys, heads, heads, 128}, DType::kBF16, Order::kBSHD);
  const Rotations rotation = {fp8_oracle::identity(128), fp8_oracle::identity(128)};
  const Heads out = run(p, rotation);
  for (const int64_t h : {int64_t{0}, int64_t{7}, int64_t{15}, heads - 1}) {
    const Head head = fp8_oracle::make_head(p, rotation.q, rotation.k, 0, h);
    Distance distance;
    const std::vector<double> want = fp8_oracle::emulated_row(head, 0, 1.0);
    for (int64_t d = 0; d < 128; ++d) {
      distance.add(out.at(0, 0, h, d), want[static_cast<size_t>(d)]);
    }
    EXPECT_LE(distance.relative(), 4e-3) << "head " << h;
  }
}

TEST(Fp8Attention, ANaNReachesWhatReadsItsBlock) {
  const Problem p = make_attention({1, 130, 300, 2, 2, 16}, DType::kF32, Order::kBSHD);
  const Rotations rotation = same_rotation(16);
  Problem bad_q = p;
  bad_q.q.set(0, 129, 0, 3, NAN);
  const Heads out = run(bad_q, rotation);
  EXPECT_TRUE(std::isnan(out.at(0, 128, 0, 0)));
  EXPECT_FALSE(std::isnan(out.at(0, 127, 0, 0)));
  EXPECT_FALSE(std::isnan(out.at(0, 129, 1, 0)));
  for (Heads Problem::* const keys : {&Problem::k, &Problem::v}) {
    Problem bad = p;
    (bad.*keys).set(0, 299, 1, 0, INFINITY);
    const Heads result = run(bad, rotation);
    EXPECT_TRUE(std::isnan(result.at(0, 0, 1, 0)));
    EXPECT_FALSE(std::isnan(result.at(0, 0, 0, 0)));
  }
}

TEST(Fp8Attention, WritesOnlyTheOutputColumns) {
  const Problem p = make_attention({1, 4, 9, 2, 2, 8}, DType::kF32, Order::kBSHD);
  const Heads out = run(p, same_rotation(8));
  for (int64_t s = 0; s < 4; ++s) {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t d = 8; d < 8 + kGap; ++d) EXPECT_EQ(out.at(0, s, h, d), p.q.at(0, s, h, d));
    }
  }
}

TEST(Fp8Attention, GivesTheSameBitsForAnyNumberOfThreads) {
  Problem p = make_attention({2, 300, 600, 4, 2, 64}, DType::kBF16, Order::kBSHD);
  p.kv_length = {600, 300};
  const Rotations rotation = same_rotation(64);
  const Heads one = run(p, rotation, 1.0f, 1);
  EXPECT_EQ(run(p, rotation, 1.0f, 2).bytes, one.bytes);
  EXPECT_EQ(run(p, rotation, 1.0f, 3).bytes, one.bytes);
}

}  // namespace
}  // namespace mezzotint
