// For tests: FP8 attention in double, written from the recipe of docs/numerics.md without the
// library's numerics, kernels or driver; and the exact attention it approximates.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/attention_data.h"

namespace mezzotint::fp8_oracle {

using Rows = std::vector<double>;  // [n,dim]

// The e4m3 number nearest to v, ties to the even mantissa, at most 448.
inline double e4m3(double v) {
  if (v == 0 || std::isnan(v)) return v;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(v), -6) - 3);
  return std::copysign(std::min(std::nearbyint(std::abs(v) / unit) * unit, 448.0), v);
}

// A head as e4m3 numbers with one scale per block of rows.
struct Quantized {
  Rows element;
  std::vector<double> scale;
  int64_t block = 0, dim = 0;
  double value(int64_t row, int64_t d) const {
    return element[static_cast<size_t>(row * dim + d)] * scale[static_cast<size_t>(row / block)];
  }
};

// Scale and quotient in f32, as the recipe says.
inline Quantized quantize(const Rows& x, int64_t dim, int64_t block) {
  Quantized result{Rows(x.size()), {}, block, dim};
  const auto step = static_cast<size_t>(block * dim);
  for (size_t first = 0; first < x.size(); first += step) {
    const size_t end = std::min(x.size(), first + step);
    float amax = 0;
    for (size_t i = first; i < end; ++i) amax = std::max(amax, std::abs(static_cast<float>(x[i])));
    const float scale = amax / 448.0f;
    result.scale.push_back(scale);
    for (size_t i = first; i < end; ++i) {
      result.element[i] = scale == 0 ? 0 : e4m3(static_cast<float>(x[i]) / scale);
    }
  }
  return result;
}

inline Rows rows_of(const testing_data::Heads& x, int64_t b, int64_t h, int64_t count) {
  Rows rows;
  for (int64_t s = 0; s < count; ++s) {
    for (int64_t d = 0; d < x.view.dim; ++d) rows.push_back(x.at(b, s, h, d));
  }
  return rows;
}

// x R with R:[dim,dim], rounded to f32.
inline Rows rotate(const Rows& x, const std::vector<float>& rotation, int64_t dim) {
  Rows y(x.size());
  for (size_t first = 0; first < x.size(); first += static_cast<size_t>(dim)) {
    for (int64_t j = 0; j < dim; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < dim; ++i) {
        sum += x[first + static_cast<size_t>(i)] * rotation[static_cast<size_t>(i * dim + j)];
      }
      y[first + static_cast<size_t>(j)] = static_cast<float>(sum);
    }
  }
  return y;
}

// An orthogonal matrix by Gram and Schmidt from random rows, [dim,dim].
inline std::vector<float> orthogonal(int64_t dim, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<Rows> rows;
  std::vector<float> result;
  for (int64_t i = 0; i < dim; ++i) {
    Rows row(static_cast<size_t>(dim));
    for (double& v : row) v = normal(rng);
    for (const Rows& other : rows) {
      double dot = 0;
      for (size_t j = 0; j < row.size(); ++j) dot += row[j] * other[j];
      for (size_t j = 0; j < row.size(); ++j) row[j] -= dot * other[j];
    }
    double square = 0;
    for (const double v : row) square += v * v;
    for (double& v : row) v /= std::sqrt(square);
    for (const double v : row) result.push_back(static_cast<float>(v));
    rows.push_back(row);
  }
  return result;
}

inline std::vector<float> identity(int64_t dim) {
  std::vector<float> result(static_cast<size_t>(dim * dim), 0.0f);
  for (int64_t i = 0; i < dim; ++i) result[static_cast<size_t>(i * (dim + 1))] = 1.0f;
  return result;
}

// One head of queries with the keys it reads.
struct Head {
  Rows q, k, v;  // as given
  Quantized q8, k8, v8;
  double scale = 0;
  int64_t keys = 0, dim = 0;
};

inline Head make_head(const testing_data::AttentionProblem& p, const std::vector<float>& q_rot,
                      const std::vector<float>& k_rot, int64_t b, int64_t h) {
  Head head;
  head.dim = p.q.view.dim;
  head.keys = p.keys_of(b);
  head.scale = p.scale;
  head.q = rows_of(p.q, b, h, p.q.view.seq);
  head.k = rows_of(p.k, b, p.kv_head(h), head.keys);
  head.v = rows_of(p.v, b, p.kv_head(h), head.keys);
  head.q8 = quantize(rotate(head.q, q_rot, head.dim), head.dim, 128);
  head.k8 = quantize(rotate(head.k, k_rot, head.dim), head.dim, 256);
  head.v8 = quantize(head.v, head.dim, 256);
  return head;
}

// Query row s in online softmax over tiles of 256 keys.
inline std::vector<double> emulated_row(const Head& head, int64_t s, double p_scale) {
  std::vector<double> out(static_cast<size_t>(head.dim), 0.0);
  double m = -INFINITY, l = 0;
  for (int64_t first = 0; first < head.keys; first += 256) {
    const int64_t end = std::min(head.keys, first + 256);
    std::vector<double> score;
    double new_max = m;
    for (int64_t j = first; j < end; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < head.dim; ++d) dot += head.q8.value(s, d) * head.k8.value(j, d);
      score.push_back(dot * head.scale);
      new_max = std::max(new_max, score.back());
    }
    const double rescale = std::exp(m - new_max);
    l *= rescale;
    for (double& o : out) o *= rescale;
    for (int64_t j = first; j < end; ++j) {
      const double p = std::exp(score[static_cast<size_t>(j - first)] - new_max);
      l += p;
      const double p8 = e4m3(p * p_scale) / p_scale;
      for (int64_t d = 0; d < head.dim; ++d) {
        out[static_cast<size_t>(d)] += p8 * head.v8.value(j, d);
      }
    }
    m = new_max;
  }
  for (double& o : out) o = l == 0 ? 0 : o / l;
  return out;
}

enum class Operands { kAsGiven, kDequantized };

struct ExactRow {
  std::vector<double> out;
  double l = 0;  // sum of e^(score - largest score)
};

// Softmax without any rounding, on what was given or on what the codes stand for.
inline ExactRow exact_row(const Head& head, int64_t s, Operands operands) {
  const bool given = operands == Operands::kAsGiven;
  const auto at = [&](const Rows& x, const Quantized& x8, int64_t row, int64_t d) {
    return given ? x[static_cast<size_t>(row * head.dim + d)] : x8.value(row, d);
  };
  ExactRow row{std::vector<double>(static_cast<size_t>(head.dim), 0.0), 0};
  std::vector<double> score;
  for (int64_t j = 0; j < head.keys; ++j) {
    double dot = 0;
    for (int64_t d = 0; d < head.dim; ++d) {
      dot += at(head.q, head.q8, s, d) * at(head.k, head.k8, j, d);
    }
    score.push_back(dot * head.scale);
  }
  const double largest = score.empty() ? 0 : *std::max_element(score.begin(), score.end());
  for (int64_t j = 0; j < head.keys; ++j) {
    const double p = std::exp(score[static_cast<size_t>(j)] - largest);
    row.l += p;
    for (int64_t d = 0; d < head.dim; ++d) {
      row.out[static_cast<size_t>(d)] += p * at(head.v, head.v8, j, d);
    }
  }
  for (double& o : row.out) o = row.l == 0 ? 0 : o / row.l;
  return row;
}

// Sums over everything compared; what the tolerances of the three tiers are about.
struct Distance {
  double square_error = 0, square_want = 0, square_got = 0, product = 0, worst = 0;
  void add(double got, double want) {
    square_error += (got - want) * (got - want);
    square_want += want * want;
    square_got += got * got;
    product += got * want;
    worst = std::max(worst, std::abs(got - want));
  }
  double relative() const {
    return square_want == 0 ? std::sqrt(square_error) : std::sqrt(square_error / square_want);
  }
  double cosine() const {
    return square_want == 0 ? 1.0 : product / std::sqrt(square_want * square_got);
  }
};

}  // namespace mezzotint::fp8_oracle
