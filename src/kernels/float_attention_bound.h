// Float attention of any row against double, within a bound derived from eps and the sums. Tests
// and fuzzing only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention_data.h"
#include "kernels/attention_op.h"

namespace mezzotint::float_attention {

using testing_data::Heads;
using Problem = testing_data::AttentionProblem;

inline Heads run(Problem p, int threads, const AttentionKernel& row) {
  Heads out = p.q;
  run_attention(p.q.with_data(), p.k.with_data(), p.v.with_data(), out.with_data(),
                {p.scale, p.kv_length}, {}, row, ExecContext({.threads = threads}));
  return out;
}

// One query row in double, and how far a float result may be from it.
struct Expected {
  std::vector<double> out;
  double bound;
};

inline Expected expect_row(const Problem& p, int64_t b, int64_t s, int64_t h) {
  constexpr double kEps = 0x1p-24;
  const int64_t keys = p.keys_of(b), dim = p.q.view.dim;
  const int64_t kv_head = p.kv_head(h);
  Expected e{std::vector<double>(static_cast<size_t>(dim)), 0};
  if (keys == 0) return e;
  std::vector<double> score(static_cast<size_t>(keys));
  double largest = -INFINITY, magnitude = 0, v_max = 0;
  for (int64_t j = 0; j < keys; ++j) {
    double dot = 0, absolute_dot = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const double product =
          static_cast<double>(p.q.at(b, s, h, d)) * p.k.at(b, j, kv_head, d) * p.scale;
      dot += product;
      absolute_dot += std::fabs(product);
      v_max = std::max(v_max, std::fabs(static_cast<double>(p.v.at(b, j, kv_head, d))));
    }
    score[static_cast<size_t>(j)] = dot;
    largest = std::max(largest, dot);
    magnitude = std::max(magnitude, absolute_dot);
  }
  double sum = 0;
  for (double& t : score) sum += t = std::exp(t - largest);
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t j = 0; j < keys; ++j) {
      e.out[static_cast<size_t>(d)] +=
          score[static_cast<size_t>(j)] / sum * p.v.at(b, j, kv_head, d);
    }
  }
  // A score is off by (dim + 3) eps of its magnitudes; e^score by as much relative to itself, in
  // the numerator and in the sum. Then `keys` products are added, twice 2 ulp of exp per tile.
  // BF16: numerators round by 2^-9, and so does the output.
  const double score_error = (static_cast<double>(dim) + 3) * kEps * magnitude;
  const double tiles = static_cast<double>(keys) / 256 + 1;
  e.bound = v_max * (2 * score_error + (static_cast<double>(keys) + 8 * tiles + 16) * kEps);
  if (p.q.view.dtype == DType::kBF16) e.bound += v_max * 0x1p-8;
  return e;
}

inline std::optional<std::string> difference(const Problem& p, const Heads& out) {
  const HeadsView& q = p.q.view;
  for (int64_t b = 0; b < q.batch; ++b) {
    for (int64_t s = 0; s < q.seq; s += q.seq > 100 ? 7 : 1) {
      for (int64_t h = 0; h < q.heads; ++h) {
        const Expected e = expect_row(p, b, s, h);
        for (int64_t d = 0; d < q.dim; ++d) {
          const double want = e.out[static_cast<size_t>(d)];
          if (std::fabs(out.at(b, s, h, d) - want) <= e.bound) continue;
          return "out[" + std::to_string(b) + "," + std::to_string(s) + "," + std::to_string(h) +
                 "," + std::to_string(d) + "] = " + std::to_string(out.at(b, s, h, d)) +
                 ", expected " + std::to_string(want) + " +- " + std::to_string(e.bound);
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace mezzotint::float_attention
