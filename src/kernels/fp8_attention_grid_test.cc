// Every row of FP8 attention on the grid of issue 3 - batches, grouped heads, key lengths, tails,
// four head_dims, both orders of strides - against float64, and against the reference row, which
// shares no code with the others but the packing of operands.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "kernels/fp8_attention_tiers.h"

namespace mezzotint {
namespace {

using fp8_oracle::Distance;
using testing_data::Heads;
using testing_data::Order;

const AttentionKernel& reference_row() { return attention_kernels().back(); }

// Two queries of a second tile, keys that end within and behind a block.
testing_data::AttentionProblem make_problem(int64_t dim, DType dtype, Order order) {
  testing_data::AttentionProblem p =
      testing_data::make_attention({2, 130, 300, 4, 2, dim}, dtype, order);
  p.kv_length = {300, 255};
  return p;
}

Distance distance(const Heads& got, const Heads& want) {
  Distance distance;
  const HeadsView& v = want.view;
  for (int64_t b = 0; b < v.batch; ++b) {
    for (int64_t s = 0; s < v.seq; ++s) {
      for (int64_t h = 0; h < v.heads; ++h) {
        for (int64_t d = 0; d < v.dim; ++d) distance.add(got.at(b, s, h, d), want.at(b, s, h, d));
      }
    }
  }
  return distance;
}

// A code of q or k at a tie of e4m3 flips where a rotation is summed in another order than
// float64's: among so many, one here and there.
constexpr double kFirstTier = 2e-3;

// Rows share the rotations. Twice the first tier's bound: either may be as far from float64.
double most_between_rows(DType dtype) { return 2 * fp8_oracle::first_tier(dtype); }

class Fp8AttentionGrid : public testing::TestWithParam<std::tuple<int64_t, Order>> {};

TEST_P(Fp8AttentionGrid, EveryRowMeetsTheTiersAndTheReference) {
  const auto& [dim, order] = GetParam();
  const DType dtype = order == Order::kBSHD ? DType::kF32 : DType::kBF16;
  const testing_data::AttentionProblem p = make_problem(dim, dtype, order);
  const fp8_oracle::Rotations rotation = fp8_oracle::same_rotation(dim);
  const fp8_oracle::TierOracle oracle(p, rotation);
  const Heads reference = fp8_oracle::run(p, rotation, 1.0f, 2, reference_row());
  int rows = 0;
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > active_isa()) continue;
    SCOPED_TRACE(row.name);
    const Heads out = fp8_oracle::run(p, rotation, 1.0f, 2, row);
    fp8_oracle::expect_tiers(oracle.compare(out), kFirstTier);
    EXPECT_LE(distance(out, reference).relative(), most_between_rows(dtype));
    ++rows;
  }
  EXPECT_GE(rows, 2) << "the reference and a vector row are portable";
}

TEST_P(Fp8AttentionGrid, TheReferenceSeesAKeyTooManyAndAnotherScaleOfP) {
  const auto& [dim, order] = GetParam();
  const DType dtype = order == Order::kBSHD ? DType::kF32 : DType::kBF16;
  testing_data::AttentionProblem p = make_problem(dim, dtype, order);
  const fp8_oracle::Rotations rotation = fp8_oracle::same_rotation(dim);
  const Heads reference = fp8_oracle::run(p, rotation, 1.0f, 2, reference_row());
  EXPECT_GT(distance(fp8_oracle::run(p, rotation, 448.0f), reference).relative(),
            most_between_rows(dtype));
  p.kv_length[1] += 1;
  EXPECT_GT(distance(fp8_oracle::run(p, rotation), reference).relative(), most_between_rows(dtype));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Fp8AttentionGrid,
                         testing::Combine(testing::Values<int64_t>(64, 72, 96, 128),
                                          testing::Values(Order::kBSHD, Order::kBHSD)),
                         [](const auto& info) {
                           const bool bsnd = std::get<1>(info.param) == Order::kBSHD;
                           return std::string(bsnd ? "f32_bsnd_" : "bf16_bnsd_") +
                                  std::to_string(std::get<0>(info.param));
                         });

}  // namespace
}  // namespace mezzotint
