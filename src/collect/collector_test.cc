#include "collect/collector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "format/expect_error.h"
#include "format/temp_folder.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

constexpr int64_t kK = 37;
constexpr int64_t kSteps = 3;

// A group of two linears and one alone.
struct SmallModel {
  Linear q = make("attn.q"), k = make("attn.k"), out = make("out");
  LinearGroup group{.name = "attn.qk", .members = {&q, &k}};

  static Linear make(const std::string& name) {
    const std::vector<float> w(2 * kK, 0.5f);
    return Linear::from_float(name, Tensor::copy_of<float>(w, {2, kK}), std::nullopt);
  }
  ModuleMap modules() { return {.linears = {&q, &k, &out}, .groups = {&group}, .attentions = {}}; }
  void run(const std::vector<float>& x, int step, const ExecContext& ctx) {
    const auto rows = static_cast<int64_t>(x.size()) / kK;
    std::vector<float> y(static_cast<size_t>(rows) * 2), z = y;
    const ConstMatrix in = {x.data(), DType::kF32, rows, kK, kK};
    const std::vector<Matrix> outs = {{y.data(), DType::kF32, rows, 2, 2},
                                      {z.data(), DType::kF32, rows, 2, 2}};
    run_group(group, in, outs, ctx.at_step(step));
    out.run(in, outs[0], ctx.at_step(step));
  }
};

std::vector<std::vector<float>> inputs(int count) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> calls;
  for (int i = 0; i < count; ++i) {
    std::vector<float>& x = calls.emplace_back(static_cast<size_t>((70 + i) * kK));
    std::ranges::generate(x, [&] { return normal(random); });
    x[3] = 1000.0f * static_cast<float>(i + 1);
    x[4] = 0.0f;
    x[5] = -0.0f;
  }
  return calls;
}

CollectOptions options() { return {.steps = kSteps, .sigmas = {}, .tokens = 20, .gram = {"*"}}; }

void run_calls(SmallModel& model, Collector& collector, const std::vector<std::vector<float>>& x,
               int first, int last, int threads) {
  const ExecContext ctx = ExecContext({.threads = threads}).with_tap(&collector.tap());
  for (int i = first; i < last; ++i) {
    model.run(x[static_cast<size_t>(i)], i % static_cast<int>(kSteps), ctx);
  }
}

std::string bytes_of(const Statistics& stats) {
  const TempFolder folder;
  write_statistics(folder.path() / "s.safetensors", stats);
  return file_bytes(folder.path() / "s.safetensors");
}

TEST(Collector, GathersWhatAPlainLoopGathers) {
  SmallModel model;
  Collector collector(model.modules(), "id", options(), ExecContext({.threads = 2}));
  const auto x = inputs(4);
  run_calls(model, collector, x, 0, 4, 2);
  const Statistics stats = collector.statistics();
  ASSERT_EQ(stats.inputs.size(), 2u);
  EXPECT_EQ(stats.model, "id");
  const InputStatistics& in = *stats.of_linear("attn.k");
  EXPECT_EQ(in.name, "attn.qk");
  EXPECT_EQ(in.rows, 70 + 71 + 72 + 73);
  std::vector<double> sum(kK), amax(kK), square(kK);
  std::map<int64_t, std::vector<float>> by_key;
  std::vector<float> low(kSteps, INFINITY), high(kSteps, -INFINITY);
  int64_t row = 0, negative = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t at = 0; at < x[i].size(); at += kK, ++row) {
      const std::vector<float> values(x[i].begin() + static_cast<int64_t>(at),
                                      x[i].begin() + static_cast<int64_t>(at) + kK);
      by_key[token_key("attn.qk", row)] = values;
      for (size_t c = 0; c < kK; ++c) {
        sum[c] += std::abs(values[c]);
        square[c] += double{values[c]} * values[c];
        amax[c] = std::max(amax[c], double{std::abs(values[c])});
        negative += std::signbit(values[c]) ? 1 : 0;
        low[i % kSteps] = std::min(low[i % kSteps], values[c]);
        high[i % kSteps] = std::max(high[i % kSteps], values[c]);
      }
    }
  }
  int64_t seen = 0, seen_negative = 0;
  for (int64_t i = 0; i < in.hist.size(); ++i) {
    seen += in.hist.data<int64_t>()[i];
    if (i / kHistogramBins % 2 == 1) seen_negative += in.hist.data<int64_t>()[i];
  }
  EXPECT_EQ(seen, in.rows * kK);
  EXPECT_EQ(seen_negative, negative);
  for (int64_t c = 0; c < kK; ++c) {
    const auto at = static_cast<size_t>(c);
    EXPECT_EQ(in.amax.data<float>()[c], amax[at]);
    EXPECT_NEAR(in.mean_abs.data<double>()[c] * static_cast<double>(in.rows), sum[at],
                1e-13 * sum[at]);
    EXPECT_NEAR(in.gram.data<float>()[c * (kK + 1)], square[at], 286 * 0x1p-23 * square[at]);
  }
  for (int64_t s = 0; s < kSteps; ++s) {
    EXPECT_EQ(in.min.data<float>()[s], low[static_cast<size_t>(s)]);
    EXPECT_EQ(in.max.data<float>()[s], high[static_cast<size_t>(s)]);
  }
  ASSERT_EQ(in.tokens.dim(0), 20);
  auto expected = by_key.begin();  // the smallest keys, in order
  const auto* bits = reinterpret_cast<const uint16_t*>(in.tokens.raw());
  for (int64_t i = 0; i < 20; ++i, ++expected) {
    EXPECT_EQ(in.token_keys.data<int64_t>()[i], expected->first);
    for (int64_t c = 0; c < kK; ++c) {
      EXPECT_EQ(bits[i * kK + c], bf16_from_float(expected->second[static_cast<size_t>(c)]));
    }
  }
}

TEST(Collector, GivesTheSameBytesForAnyNumberOfThreads) {
  const auto x = inputs(3);
  std::set<std::string> files;
  for (const int threads : {1, 2, 5}) {
    SmallModel model;
    Collector collector(model.modules(), "id", options(), ExecContext({.threads = threads}));
    run_calls(model, collector, x, 0, 3, threads);
    files.insert(bytes_of(collector.statistics()));
  }
  EXPECT_EQ(files.size(), 1u);
}

TEST(Collector, GoesOnFromAFileWhereverItWasCut) {
  const auto x = inputs(5);
  SmallModel model;
  const ExecContext ctx({.threads = 2});
  Collector whole(model.modules(), "id", options(), ctx);
  run_calls(model, whole, x, 0, 5, 2);
  const std::string expected = bytes_of(whole.statistics());
  for (int cut = 1; cut < 5; ++cut) {
    const TempFolder folder;
    const auto file = folder.path() / "s.safetensors";
    {
      Collector first(model.modules(), "id", options(), ctx);
      run_calls(model, first, x, 0, cut, 2);
      write_statistics(file, first.statistics());
    }
    Collector second(model.modules(), "id", options(), read_statistics(file), ctx);
    run_calls(model, second, x, cut, 5, 2);
    EXPECT_TRUE(bytes_of(second.statistics()) == expected) << cut;
  }
}

TEST(Collector, NamesTheInputThatIsNotFinite) {
  SmallModel model;
  Collector collector(model.modules(), "id", options(), ExecContext({.threads = 2}));
  auto x = inputs(1);
  x[0][kK + 2] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorCode::kInput, {"not finite", "channel 2 at step 0", "attn.qk"},
               [&] { run_calls(model, collector, x, 0, 1, 2); });
}

TEST(Collector, RefusesStepsOutsideOfTheRun) {
  SmallModel model;
  Collector collector(model.modules(), "id", options(), ExecContext({.threads = 1}));
  const ExecContext ctx = ExecContext({.threads = 1}).with_tap(&collector.tap());
  for (const int step : {-1, 3}) {
    expect_error(ErrorCode::kUsage, {"expected 0 to 2"},
                 [&] { model.run(inputs(1)[0], step, ctx); });
  }
}

TEST(Collector, RefusesAPatternThatMatchesNothing) {
  SmallModel model;
  CollectOptions wrong = options();
  wrong.gram = {"attn.qkv"};
  expect_error(ErrorCode::kUsage, {"matches no input", "attn.qkv", "attn.qk"},
               [&] { Collector(model.modules(), "id", wrong, ExecContext({.threads = 1})); });
}

TEST(Collector, HoldsOnlyWhatWasAskedFor) {
  SmallModel model;
  const CollectOptions few = {.steps = kSteps, .tokens = 0, .histograms = false, .gram = {"out"}};
  Collector collector(model.modules(), "id", few, ExecContext({.threads = 1}));
  run_calls(model, collector, inputs(1), 0, 1, 1);
  const Statistics stats = collector.statistics();
  EXPECT_TRUE(stats.find("attn.qk")->gram.empty());
  EXPECT_FALSE(stats.find("out")->gram.empty());
  EXPECT_TRUE(stats.find("out")->hist.empty());
  EXPECT_TRUE(stats.find("out")->tokens.empty());
}

// --- attentions ----------------------------------------------------------------------------------

constexpr int64_t kSeq = 6, kHeads = 2, kDim = 32;

void attend(const Attention& attention, uint32_t seed, const ExecContext& ctx) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> values(4);
  std::vector<HeadsView> views;
  for (std::vector<float>& v : values) {
    v.resize(kSeq * kHeads * kDim);
    std::ranges::generate(v, [&] { return normal(random); });
    views.push_back({.data = v.data(),
                     .dtype = DType::kF32,
                     .batch = 1,
                     .seq = kSeq,
                     .heads = kHeads,
                     .dim = kDim,
                     .batch_stride = kSeq * kHeads * kDim,
                     .seq_stride = kHeads * kDim,
                     .head_stride = kDim});
  }
  attention.run(views[0], views[1], views[2], views[3], {.scale = 0.2f}, ctx);
}

TEST(Collector, SumsUpWhatFp8MakesOfAttentions) {
  SmallModel model;
  Attention near("a.attn", {.heads = kHeads, .head_dim = kDim});
  Attention wide("b.attn", {.heads = 1, .head_dim = 256});  // FP8 does not serve it
  ModuleMap modules = model.modules();
  modules.attentions = {&wide, &near};
  const ExecContext ctx({.threads = 2});
  const auto collected = [&](int first, int last, const Statistics& earlier) {
    Collector collector(modules, "id", options(), earlier, ctx);
    EXPECT_EQ(near.algorithm(), "FLOAT");
    for (int i = first; i < last; ++i) {
      attend(near, static_cast<uint32_t>(i), ctx.at_step(i % 2));
    }
    run_calls(model, collector, inputs(last), first, last, 2);
    const Statistics stats = collector.statistics();
    const TempFolder folder;  // the collector's own tensors end with it
    write_statistics(folder.path() / "s.safetensors", stats);
    return read_statistics(folder.path() / "s.safetensors");
  };
  const Statistics whole = collected(0, 4, {});
  EXPECT_EQ(near.state(), nullptr) << "the model is as it was";
  ASSERT_EQ(whole.attentions.size(), 1u);
  const AttentionStatistics& seen = whole.attentions[0];
  EXPECT_EQ(seen.name, "a.attn");
  EXPECT_EQ(seen.head_dim, kDim);
  EXPECT_GT(seen.error(), 1e-5);
  EXPECT_LT(seen.error(), 1e-2);
  EXPECT_EQ(seen.step_errors()[2], -1) << "no call was of step 2";
  const Statistics half = collected(0, 2, {});
  EXPECT_EQ(bytes_of(collected(2, 4, half)), bytes_of(whole)) << "going on is one collection";
  Collector collector(modules, "id", options(), ctx);
  EXPECT_EQ(collector.statistics().attentions.size(), 0u) << "nothing ran";
  expect_error(ErrorCode::kUsage, {"a step outside of the run", "a.attn", "expected 0 to 2"},
               [&] { attend(near, 1, ctx.at_step(3)); });
}

}  // namespace
}  // namespace mezzotint
