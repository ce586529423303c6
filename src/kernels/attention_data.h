// Strided heads for tests of attention, float and FP8. Tests only.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/test_data.h"
#include "mezzotint/attention.h"

namespace mezzotint::testing_data {

enum class Order { kBSHD, kBHSD };

struct Heads {
  std::vector<std::byte> bytes;
  HeadsView view;  // without data
  FloatType type() const { return view.dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32; }
  int64_t index(int64_t b, int64_t s, int64_t h, int64_t d) const {
    return b * view.batch_stride + s * view.seq_stride + h * view.head_stride + d;
  }
  float at(int64_t b, int64_t s, int64_t h, int64_t d) const {
    return load_float(bytes.data(), type(), index(b, s, h, d));
  }
  void set(int64_t b, int64_t s, int64_t h, int64_t d, float value) {
    store_float(value, bytes.data(), type(), index(b, s, h, d));
  }
  HeadsView with_data() {
    HeadsView v = view;
    v.data = bytes.data();
    return v;
  }
};

// With columns between the heads that belong to nobody, as in a fused projection.
inline constexpr int64_t kGap = 4;

inline Heads make_heads(int64_t batch, int64_t seq, int64_t heads, int64_t dim, DType dtype,
                        Order order, uint32_t seed) {
  const int64_t padded = dim + kGap;
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(batch * seq * heads * padded));
  for (float& v : values) v = normal(rng);
  Heads h;
  h.bytes = as_type(values, dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32);
  h.view = {.data = nullptr,
            .dtype = dtype,
            .batch = batch,
            .seq = seq,
            .heads = heads,
            .dim = dim,
            .batch_stride = seq * heads * padded,
            .seq_stride = order == Order::kBSHD ? heads * padded : padded,
            .head_stride = order == Order::kBSHD ? padded : seq * padded};
  return h;
}

// The same values in the other order of strides.
inline Heads reordered(const Heads& from, Order order) {
  const HeadsView& v = from.view;
  Heads to = make_heads(v.batch, v.seq, v.heads, v.dim, v.dtype, order, 0);
  for (int64_t b = 0; b < v.batch; ++b) {
    for (int64_t s = 0; s < v.seq; ++s) {
      for (int64_t h = 0; h < v.heads; ++h) {
        for (int64_t d = 0; d < v.dim; ++d) to.set(b, s, h, d, from.at(b, s, h, d));
      }
    }
  }
  return to;
}

struct AttentionProblem {
  Heads q, k, v;
  float scale;
  std::vector<int64_t> kv_length;
  int64_t keys_of(int64_t batch) const {
    return kv_length.empty() ? k.view.seq : kv_length[static_cast<size_t>(batch)];
  }
  int64_t kv_head(int64_t head) const { return head / (q.view.heads / k.view.heads); }
};

struct AttentionSize {
  int64_t batch, q_seq, k_seq, heads, kv_heads, dim;
};

inline AttentionProblem make_attention(const AttentionSize& s, DType dtype, Order order) {
  return {make_heads(s.batch, s.q_seq, s.heads, s.dim, dtype, order, 1),
          make_heads(s.batch, s.k_seq, s.kv_heads, s.dim, dtype, order, 2),
          make_heads(s.batch, s.k_seq, s.kv_heads, s.dim, dtype, order, 3),
          1.0f / std::sqrt(static_cast<float>(s.dim)),
          {}};
}

}  // namespace mezzotint::testing_data
