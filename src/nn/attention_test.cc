#include "mezzotint/attention.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

constexpr int64_t kHeads = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kDim = 8;
constexpr int64_t kSeq = 5;
constexpr int64_t kKeys = 7;

HeadsView view(std::vector<float>& values, int64_t seq, int64_t heads) {
  return {.data = values.data(),
          .dtype = DType::kF32,
          .batch = 2,
          .seq = seq,
          .heads = heads,
          .dim = kDim,
          .batch_stride = seq * heads * kDim,
          .seq_stride = heads * kDim,
          .head_stride = kDim};
}

struct Operands {
  Operands() : q(make(kSeq * kHeads)), k(make(kKeys * kKvHeads)), v(make(kKeys * kKvHeads)) {
    out.assign(2 * kSeq * kHeads * kDim, -7.0f);
  }
  std::vector<float> make(int64_t rows) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(2 * rows * kDim));
    for (float& value : values) value = normal(random);
    return values;
  }
  HeadsView q_view() { return view(q, kSeq, kHeads); }
  HeadsView k_view() { return view(k, kKeys, kKvHeads); }
  HeadsView v_view() { return view(v, kKeys, kKvHeads); }
  HeadsView out_view() { return view(out, kSeq, kHeads); }

  std::mt19937_64 random{30};
  std::vector<float> q, k, v, out;
};

Attention grouped() {
  return Attention("blocks.0.attn", {.heads = kHeads, .kv_heads = kKvHeads, .head_dim = kDim});
}

TEST(Attention, GivesTheSoftmaxOfGroupedHeadsWithinKvLength) {
  Operands o;
  const std::array<int64_t, 2> lengths = {kKeys, 3};
  const float scale = 1 / std::sqrt(static_cast<float>(kDim));
  grouped().run(o.q_view(), o.k_view(), o.v_view(), o.out_view(),
                {.scale = scale, .kv_length = lengths}, ExecContext({.threads = 2}));
  const auto at = [](const std::vector<float>& t, int64_t b, int64_t s, int64_t h, int64_t d,
                     int64_t seq, int64_t heads) {
    return static_cast<double>(t[static_cast<size_t>(((b * seq + s) * heads + h) * kDim + d)]);
  };
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      const int64_t kv = h / (kHeads / kKvHeads);
      for (int64_t s = 0; s < kSeq; ++s) {
        std::vector<double> p;
        double total = 0;
        for (int64_t j = 0; j < lengths[static_cast<size_t>(b)]; ++j) {
          double dot = 0;
          for (int64_t d = 0; d < kDim; ++d) {
            dot += at(o.q, b, s, h, d, kSeq, kHeads) * at(o.k, b, j, kv, d, kKeys, kKvHeads);
          }
          p.push_back(std::exp(dot * scale));
          total += p.back();
        }
        for (int64_t d = 0; d < kDim; ++d) {
          double expected = 0;
          for (size_t j = 0; j < p.size(); ++j) {
            expected += p[j] / total * at(o.v, b, static_cast<int64_t>(j), kv, d, kKeys, kKvHeads);
          }
          EXPECT_NEAR(at(o.out, b, s, h, d, kSeq, kHeads), expected, 2e-6);
        }
      }
    }
  }
}

TEST(Attention, ShapesThatCannotBeAreRefused) {
  for (const AttentionShape shape : {AttentionShape{0, 0, 64}, {4, 3, 64}, {4, 4, 0}, {-1, 0, 8}}) {
    const Error error = error_of([&] { Attention("a", shape); });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_EQ(error.details().layer, "a");
  }
  EXPECT_EQ(Attention("a", {.heads = 6, .head_dim = 64}).shape().kv_heads, 6);
}

void expect_refused(const std::string& text, const auto& change) {
  Operands o;
  HeadsView q = o.q_view(), k = o.k_view(), v = o.v_view(), out = o.out_view();
  AttentionCall call;
  change(q, k, v, out, call);
  const Error error =
      error_of([&] { grouped().run(q, k, v, out, call, ExecContext({.threads = 1})); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("layer blocks.0.attn"), std::string::npos);
  EXPECT_EQ(o.out, std::vector<float>(o.out.size(), -7.0f));
}

constexpr std::array<int64_t, 2> kLong = {3, 8};
constexpr std::array<int64_t, 1> kFew = {3};

TEST(Attention, WrongCallsAreRefusedBeforeAnythingIsWritten) {
  expect_refused("wrong head_dim of q: expected 8, got 9",
                 [](auto& q, auto&, auto&, auto&, auto&) { q.dim = 9; });
  expect_refused("wrong number of heads of k: expected 2, got 4",
                 [](auto&, auto& k, auto&, auto&, auto&) { k.heads = 4; });
  expect_refused("wrong sequence length of v: expected 7, got 6",
                 [](auto&, auto&, auto& v, auto&, auto&) { v.seq = 6; });
  expect_refused("wrong batch of out: expected 2, got 1",
                 [](auto&, auto&, auto&, auto& out, auto&) { out.batch = 1; });
  expect_refused("wrong dtype of k: expected F32 like q, got BF16",
                 [](auto&, auto& k, auto&, auto&, auto&) { k.dtype = DType::kBF16; });
  expect_refused("wrong dtype of q: expected F32 or BF16, got F16",
                 [](auto& q, auto&, auto&, auto&, auto&) { q.dtype = DType::kF16; });
  expect_refused("out has no data",
                 [](auto&, auto&, auto&, auto& out, auto&) { out.data = nullptr; });
  expect_refused("kv_length out of range: expected 0..7, got 8",
                 [](auto&, auto&, auto&, auto&, auto& call) { call.kv_length = kLong; });
  expect_refused("wrong number of kv_length entries: expected 2, got 1",
                 [](auto&, auto&, auto&, auto&, auto& call) { call.kv_length = kFew; });
}

}  // namespace
}  // namespace mezzotint
