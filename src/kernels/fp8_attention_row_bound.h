// One row of FP8 attention on codes against double, within a bound derived from eps, sums and ties.
// Tests and fuzzing only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention_op.h"
#include "kernels/fp8_attention_oracle.h"
#include "numerics/e4m3.h"

namespace mezzotint::fp8_attention_row {

inline constexpr double kEps = 0x1p-24;

struct Codes {
  std::vector<uint8_t> codes;  // [rows,dim]
  std::vector<float> scale;    // per block
  double value(int64_t row, int64_t d, int64_t dim, int64_t block) const {
    return static_cast<double>(e4m3_to_float(codes[static_cast<size_t>(row * dim + d)])) *
           scale[static_cast<size_t>(row / block)];
  }
};

struct Problem {
  Codes q, k, v;
  int64_t q_rows, keys, dim;
  float scale, p_scale;
};

// The codes as the row packs them: as floats with a scale of 1.
inline Buffer packed(const Codes& c, int64_t dim, int64_t block, int64_t block_bytes,
                     AttentionPackFn pack) {
  std::vector<float> values;
  for (const uint8_t code : c.codes) values.push_back(e4m3_to_float(code));
  const int64_t rows = static_cast<int64_t>(values.size()) / dim;
  Buffer buffer = Buffer::allocate((rows + block - 1) / block * block_bytes);
  std::fill_n(buffer.mutable_data(), buffer.size(), std::byte{0xff});  // NaN everywhere
  for (int64_t first = 0; first < rows; first += block) {
    pack({.form = AttentionForm::kFp8,
          .x = values.data() + first * dim,
          .x_stride = dim,
          .rows = std::min(block, rows - first),
          .dim = dim,
          .packed = buffer.mutable_data() + first / block * block_bytes});
  }
  return buffer;
}

inline std::vector<float> run(const AttentionKernel& row, const Problem& p) {
  const AttentionOps& ops = *row.ops;
  std::vector<float> out(static_cast<size_t>(p.q_rows * p.dim), 77.0f);
  const Buffer q = packed(p.q, p.dim, kQueryBlock, ops.query_bytes(p.dim), ops.pack_queries);
  const Buffer k = packed(p.k, p.dim, kKeyBlock, ops.key_bytes(p.dim), ops.pack_keys);
  const Buffer v = packed(p.v, p.dim, kKeyBlock, ops.key_bytes(p.dim), ops.pack_values);
  const Buffer scratch = Buffer::allocate(ops.scratch_bytes(p.dim));
  ops.run({.form = AttentionForm::kFp8,
           .q = q.data(),
           .k = k.data(),
           .v = v.data(),
           .q_scale = p.q.scale[0],
           .k_scale = p.k.scale.data(),
           .v_scale = p.v.scale.data(),
           .q_rows = p.q_rows,
           .keys = p.keys,
           .dim = p.dim,
           .scale = p.scale,
           .p_scale = p.p_scale,
           .out = out.data(),
           .scratch = scratch.mutable_data()});
  return out;
}

// Half the distance from p to where its e4m3 number changes, and the size of that change.
struct Tie {
  double distance, step;
};
inline Tie nearest_tie(double p) {
  const double unit = std::ldexp(1.0, std::max(p == 0 ? -6 : std::ilogb(p), -6) - 3);
  const double place = p / unit - 0.5;
  return {std::abs(place - std::nearbyint(place)) * unit, unit};
}

struct Expected {
  std::vector<double> out, bound;
};

// One key's part of a row: its score, how far a float score may be from it, and its numerator.
struct Score {
  double value, error;
};

inline Score score_of(const Problem& p, int64_t row, int64_t key) {
  double dot = 0, magnitude = 0;
  for (int64_t d = 0; d < p.dim; ++d) {
    const double product =
        p.q.value(row, d, p.dim, kQueryBlock) * p.k.value(key, d, p.dim, kKeyBlock);
    dot += product;
    magnitude += std::abs(product);
  }
  // dim additions, three products of scales, one by the sum.
  return {dot * p.scale, (static_cast<double>(p.dim) + 4) * kEps * magnitude * p.scale};
}

// Scores are off by at most their error, numerators by as much relative to themselves plus 8 eps of
// exp and its argument. A numerator that lies closer to a tie of e4m3 than that may become either
// neighbour. Sums of `keys` terms and a rescale per tile follow, in the output and in its divisor.
inline Expected expect_row(const Problem& p, int64_t row) {
  const auto dim = static_cast<size_t>(p.dim);
  std::vector<double> sum(dim, 0.0), magnitude(dim, 0.0), flips(dim, 0.0);
  double m = -INFINITY, l = 0, worst = 0;
  for (int64_t first = 0; first < p.keys; first += kKeyBlock) {
    const int64_t end = std::min(p.keys, first + kKeyBlock);
    std::vector<Score> scores;
    for (int64_t j = first; j < end; ++j) scores.push_back(score_of(p, row, j));
    double new_max = m;
    for (const Score& s : scores) {
      new_max = std::max(new_max, s.value);
      worst = std::max(worst, s.error);
    }
    const double rescale = std::exp(m - new_max);
    m = new_max;
    l *= rescale;
    for (auto* part : {&sum, &magnitude, &flips}) {
      for (double& v : *part) v *= rescale;
    }
    for (int64_t j = first; j < end; ++j) {
      const Score& s = scores[static_cast<size_t>(j - first)];
      const double e = std::exp(s.value - m);
      const double e8 = fp8_oracle::e4m3(e * p.p_scale);
      const double relative = s.error + worst + (8 + std::abs(s.value - m)) * kEps;
      const Tie tie = nearest_tie(e * p.p_scale);
      l += e;
      for (size_t d = 0; d < dim; ++d) {
        const double v = p.v.value(j, static_cast<int64_t>(d), p.dim, kKeyBlock);
        sum[d] += e8 * v;
        magnitude[d] += e8 * std::abs(v);
        if (tie.distance <= 2 * relative * e * p.p_scale) flips[d] += tie.step * std::abs(v);
      }
    }
  }
  const double tiles = static_cast<double>(p.keys) / 256 + 1;
  const double relative = 2 * worst + (static_cast<double>(p.keys) + 16 * tiles + 16) * kEps;
  Expected expected;
  for (size_t d = 0; d < dim; ++d) {
    const double divisor = p.keys == 0 ? 1 : l * p.p_scale;
    expected.out.push_back(sum[d] / divisor);
    expected.bound.push_back((2 * relative * magnitude[d] + flips[d]) / divisor);
  }
  return expected;
}

struct Comparison {
  std::optional<std::string> fault;
  double mean_bound = 0;  // relative to the largest output
};

inline Comparison compare(const Problem& p, const std::vector<float>& out) {
  Comparison result;
  double largest = 0, sum = 0, count = 0;
  for (int64_t i = 0; i < p.q_rows; i += p.q_rows > 8 ? 9 : 1) {
    const Expected e = expect_row(p, i);
    for (size_t d = 0; d < e.out.size(); ++d) {
      const double got = out[static_cast<size_t>(i * p.dim) + d];
      largest = std::max(largest, std::abs(e.out[d]));
      sum += e.bound[d];
      ++count;
      if (std::abs(got - e.out[d]) <= e.bound[d] || result.fault) continue;
      result.fault = "row " + std::to_string(i) + " column " + std::to_string(d) + ": " +
                     std::to_string(got) + ", expected " + std::to_string(e.out[d]) + " +- " +
                     std::to_string(e.bound[d]);
    }
  }
  result.mean_bound = sum / count / largest;
  return result;
}

}  // namespace mezzotint::fp8_attention_row
