#include "mezzotint/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "nn/attention_state.h"
#include "numerics/bf16.h"
#include "quant/file_fixture.h"
#include "solve/hadamard.h"

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

// --- FP8_DYNAMIC ---------------------------------------------------------------------------------

std::shared_ptr<const AttentionState> fp8_state(int64_t dim, float p_scale = 1.0f) {
  const Tensor rotation = make_rotation(dim, kRotationSeed);
  return make_fp8_attention_state(rotation, rotation, p_scale, active_isa());
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    square += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / square);
}

std::vector<float> output(const Attention& attention, const ExecContext& ctx) {
  Operands o;
  attention.run(o.q_view(), o.k_view(), o.v_view(), o.out_view(), {.scale = 0.5f}, ctx);
  return o.out;
}

TEST(Attention, AStateMakesItFp8AndNoStateFloatAgain) {
  const ExecContext ctx({.threads = 2});
  Attention attention = grouped();
  EXPECT_EQ(attention.algorithm(), "FLOAT");
  EXPECT_EQ(attention.resident_bytes(), 0);
  const std::vector<float> exact = output(attention, ctx);
  attention.set_state(fp8_state(kDim));
  EXPECT_EQ(attention.algorithm(), "FP8_DYNAMIC");
  EXPECT_EQ(attention.resident_bytes(), 2 * kDim * kDim * 4);
  const std::vector<float> fp8 = output(attention, ctx);
  EXPECT_LT(relative_difference(fp8, exact), 0.1);
  EXPECT_GT(relative_difference(fp8, exact), 0.005);  // it was quantized
  attention.set_state(fp8_state(kDim, 448.0f));
  EXPECT_NE(output(attention, ctx), fp8);
  attention.set_state(nullptr);
  EXPECT_EQ(output(attention, ctx), exact);
}

TEST(Attention, AStateThatComparesKeepsItFloatAndTellsTheDifference) {
  const ExecContext ctx({.threads = 2});
  Attention attention = grouped();
  const std::vector<float> exact = output(attention, ctx);
  attention.set_state(fp8_state(kDim));
  const std::vector<float> fp8 = output(attention, ctx);
  AttentionState comparing = *attention.state();
  std::vector<std::pair<Difference, int>> told;
  comparing.compared = [&](const Difference& outputs, int step) {
    told.emplace_back(outputs, step);
  };
  attention.set_state(std::make_shared<const AttentionState>(comparing));
  EXPECT_EQ(attention.algorithm(), "FLOAT");
  EXPECT_EQ(output(attention, ctx.at_step(7)), exact);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].second, 7);
  EXPECT_NEAR(std::sqrt(told[0].first.error()), relative_difference(fp8, exact), 1e-6);
  // Whatever the layout and dtype of the views.
  std::vector<uint16_t> q, k, v, out(2 * kSeq * kHeads * kDim);
  Operands o;
  const auto narrowed = [](const std::vector<float>& from, std::vector<uint16_t>& to) {
    std::ranges::transform(from, std::back_inserter(to),
                           [](float value) { return bf16_from_float(value); });
  };
  narrowed(o.q, q);
  narrowed(o.k, k);
  narrowed(o.v, v);
  const auto bhsd = [](std::vector<uint16_t>& values, int64_t seq, int64_t heads) {
    return HeadsView{.data = values.data(),
                     .dtype = DType::kBF16,
                     .batch = 2,
                     .seq = seq,
                     .heads = heads,
                     .dim = kDim,
                     .batch_stride = seq * heads * kDim,
                     .seq_stride = kDim,
                     .head_stride = seq * kDim};
  };
  attention.run(bhsd(q, kSeq, kHeads), bhsd(k, kKeys, kKvHeads), bhsd(v, kKeys, kKvHeads),
                bhsd(out, kSeq, kHeads), {.scale = 0.5f}, ctx);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[1].second, -1);
  EXPECT_GT(told[1].first.error(), 2.5e-5);
  EXPECT_LT(told[1].first.error(), 1e-2);
}

TEST(Attention, RotationsOfEveryFloatDtypeAreTheSame) {
  const ExecContext ctx({.threads = 1});
  const Tensor bf16 = make_rotation(kDim, kRotationSeed);
  Attention attention = grouped();
  attention.set_state(fp8_state(kDim));
  const std::vector<float> expected = output(attention, ctx);
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    std::vector<float> values(static_cast<size_t>(kDim * kDim));
    widen_into(bf16, values);
    const Tensor rotation = float_tensor(dtype, {kDim, kDim}, values);
    attention.set_state(make_fp8_attention_state(rotation, bf16, 1.0f, active_isa()));
    EXPECT_EQ(output(attention, ctx), expected);
  }
}

TEST(Attention, AStateThatDoesNotFitIsRefused) {
  Attention attention = grouped();
  const Error other = error_of([&] { attention.set_state(fp8_state(16)); });
  EXPECT_EQ(other.code(), ErrorCode::kInput);
  EXPECT_EQ(std::string(other.what()),
            "the rotations have another head_dim than the layer: expected [8,8], got [16,16] "
            "(layer blocks.0.attn)");
  Attention wide("blocks.0.attn", {.heads = 1, .head_dim = 256});
  const Error long_rows = error_of([&] { wide.set_state(fp8_state(256)); });
  EXPECT_EQ(long_rows.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(long_rows.what()).find("layer blocks.0.attn"), std::string::npos);
  EXPECT_EQ(wide.algorithm(), "FLOAT");
  EXPECT_EQ(attention.algorithm(), "FLOAT");
}

TEST(Attention, StatesOfWrongPartsAreRefused) {
  const Tensor good = make_rotation(8, 1);
  const Tensor flat = Tensor::allocate(DType::kF32, {64});
  const Tensor codes = Tensor::allocate(DType::kI8, {8, 8});
  const auto build = [](const Tensor& q, const Tensor& k, float p_scale) {
    return error_of([&] { make_fp8_attention_state(q, k, p_scale, Isa::kPortable); }).code();
  };
  EXPECT_EQ(build(flat, good, 1), ErrorCode::kUsage);
  EXPECT_EQ(build(good, codes, 1), ErrorCode::kUsage);
  EXPECT_EQ(build(good, make_rotation(4, 1), 1), ErrorCode::kUsage);
  for (const float p_scale : {0.0f, -1.0f, NAN, INFINITY}) {
    EXPECT_EQ(build(good, good, p_scale), ErrorCode::kUsage);
  }
}

}  // namespace
}  // namespace mezzotint
