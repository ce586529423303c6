// For tests: FP8 attention by any row, and how far it is from float64 in the three tiers of
// docs/numerics.md.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention_op.h"
#include "kernels/fp8_attention_oracle.h"

namespace mezzotint::fp8_oracle {

struct Rotations {
  std::vector<float> q, k;
};

inline Rotations same_rotation(int64_t dim) {
  const std::vector<float> r = orthogonal(dim, 9);
  return {r, r};
}

inline const AttentionKernel& best_row() {
  return choose_attention_kernel(AttentionForm::kFp8, FloatType::kF32, active_isa());
}

inline testing_data::Heads run(testing_data::AttentionProblem p, const Rotations& rotation,
                               float p_scale = 1.0f, int threads = 1,
                               const AttentionKernel& row = best_row()) {
  testing_data::Heads out = p.q;
  run_attention(p.q.with_data(), p.k.with_data(), p.v.with_data(), out.with_data(),
                {p.scale, p.kv_length},
                {.form = AttentionForm::kFp8,
                 .q_rot = {.matrix = rotation.q.data()},
                 .k_rot = {.matrix = rotation.k.data()},
                 .p_scale = p_scale},
                row, ExecContext({.threads = threads}));
  return out;
}

struct Tiers {
  Distance emulated, dequantized, given;
  double largest_v = 0;
  double over_bound = -INFINITY;  // |error| - bound of the second tier, worst
};

struct Compared {
  double p_scale = 1.0;
  double k_scale_factor = 1.0;  // of the oracle's first block
  double v_scale_factor = 1.0;
};

// What all three tiers say of a problem; of rows all of a short sequence, every 13th of a long one.
class TierOracle {
 public:
  TierOracle(const testing_data::AttentionProblem& p, const Rotations& rotation, Compared c = {}) {
    const HeadsView& q = p.q.view;
    for (int64_t b = 0; b < q.batch; ++b) {
      for (int64_t h = 0; h < q.heads; ++h) {
        Head head = make_head(p, rotation.q, rotation.k, b, h);
        if (head.keys > 0) {
          head.k8.scale[0] *= c.k_scale_factor;
          head.v8.scale[0] *= c.v_scale_factor;
        }
        double v_max = 0;
        for (const double v : head.v) v_max = std::max(v_max, std::abs(v));
        largest_v_ = std::max(largest_v_, v_max);
        for (int64_t s = 0; s < q.seq; s += q.seq > 100 ? 13 : 1) {
          const ExactRow dequantized = exact_row(head, s, Operands::kDequantized);
          // A numerator becomes e4m3 with an error of at most max(2^-4 P, 2^-10 / p_scale).
          const double bound = v_max * (0x1p-4 + 0x1p-10 * static_cast<double>(head.keys) /
                                                     (dequantized.l * c.p_scale));
          rows_.push_back({b, s, h, emulated_row(head, s, c.p_scale), dequantized.out,
                           exact_row(head, s, Operands::kAsGiven).out, bound});
        }
      }
    }
  }

  Tiers compare(const testing_data::Heads& out) const {
    Tiers t;
    t.largest_v = largest_v_;
    for (const Row& row : rows_) {
      for (size_t d = 0; d < row.emulated.size(); ++d) {
        const double got = out.at(row.b, row.s, row.h, static_cast<int64_t>(d));
        t.emulated.add(got, row.emulated[d]);
        t.dequantized.add(got, row.dequantized[d]);
        t.given.add(got, row.given[d]);
        t.over_bound = std::max(t.over_bound, std::abs(got - row.dequantized[d]) - row.bound);
      }
    }
    return t;
  }

 private:
  struct Row {
    int64_t b, s, h;
    std::vector<double> emulated, dequantized, given;
    double bound;
  };
  std::vector<Row> rows_;
  double largest_v_ = 0;
};

inline Tiers compare(const testing_data::AttentionProblem& p, const Rotations& rotation,
                     const testing_data::Heads& out, Compared c = {}) {
  return TierOracle(p, rotation, c).compare(out);
}

// First tier: float arithmetic against double, one code flipped here and there; BF16 outputs round
// by 2^-9 more. Second: e4m3 numerators. Third: everything.
inline double first_tier(DType dtype) { return dtype == DType::kBF16 ? 2e-3 : 5e-4; }

inline void expect_tiers(const Tiers& t, double most_emulated) {
  EXPECT_LE(t.emulated.relative(), most_emulated);
  EXPECT_LE(t.emulated.worst, 0x1p-8 * t.largest_v);
  EXPECT_LE(t.dequantized.relative(), 0.04);
  EXPECT_LE(t.over_bound, 0.0);
  EXPECT_GE(t.given.cosine(), 0.99);
  EXPECT_GE(t.given.relative(), 0.002) << "too good: not quantized";
}
inline void expect_tiers(const Tiers& t, DType dtype) { expect_tiers(t, first_tier(dtype)); }

}  // namespace mezzotint::fp8_oracle
