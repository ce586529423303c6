#include "format/statistics.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "format/expect_error.h"
#include "format/model_identity.h"
#include "format/temp_folder.h"
#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

constexpr int64_t kK = 3;
constexpr int64_t kSteps = 2;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
Tensor tensor_of(std::vector<T> values, Shape shape) {
  return Tensor::copy_of<T>(values, std::move(shape));
}

Tensor bf16_tokens(const std::vector<uint16_t>& bits, int64_t k) {
  Tensor t = Tensor::allocate(DType::kBF16, {static_cast<int64_t>(bits.size()) / k, k});
  std::memcpy(t.buffer().mutable_data(), bits.data(), bits.size() * sizeof(uint16_t));
  return t;
}

InputStatistics small_input(const std::string& name, std::vector<int64_t> keys, int64_t rows) {
  InputStatistics in;
  in.name = name;
  in.members = {name + ".q", name + ".k"};
  in.k = kK;
  in.rows = rows;
  in.amax = tensor_of<float>({1, 2, 0}, {kK});
  in.mean_abs = tensor_of<double>({0.5, 0.25, 0}, {kK});
  in.min = tensor_of<float>({-1, kInfinity}, {kSteps});
  in.max = tensor_of<float>({2, -kInfinity}, {kSteps});
  in.hist = Tensor::allocate(DType::kI64, {kSteps, 2, kHistogramBins});
  std::fill_n(in.hist.mutable_data<int64_t>(), in.hist.size(), int64_t{1});
  std::vector<uint16_t> bits;
  for (const int64_t key : keys) {
    for (int64_t k = 0; k < kK; ++k) bits.push_back(static_cast<uint16_t>(key));
  }
  const auto count = static_cast<int64_t>(keys.size());
  in.tokens = bf16_tokens(bits, kK);
  in.token_steps = tensor_of<int32_t>(std::vector<int32_t>(keys.size(), 1), {count});
  in.token_keys = tensor_of<int64_t>(std::move(keys), {count});
  in.gram = tensor_of<float>({1, 2, 3, 2, 5, 6, 3, 6, 9}, {kK, kK});
  return in;
}

Statistics small_statistics(std::vector<int64_t> keys = {1, 4}, int64_t rows = 4) {
  return {.model = "abc",
          .steps = kSteps,
          .sigmas = {1.0f, 0.5f},
          .token_limit = 3,
          .inputs = {small_input("a", keys, rows), small_input("b", keys, rows)}};
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::ranges::equal(a.buffer().bytes(), b.buffer().bytes());
}

TEST(Statistics, SurviveAFileAndGiveTheSameBytesAgain) {
  const TempFolder folder;
  Statistics stats = small_statistics();
  stats.facts["done"] = "7";
  write_statistics(folder.path() / "a.safetensors", stats);
  const Statistics read = read_statistics(folder.path() / "a.safetensors");
  EXPECT_EQ(read.model, "abc");
  EXPECT_EQ(read.steps, kSteps);
  EXPECT_EQ(read.sigmas, stats.sigmas);
  EXPECT_EQ(read.token_limit, 3);
  EXPECT_EQ(read.facts.at("done"), "7");
  ASSERT_EQ(read.inputs.size(), 2u);
  EXPECT_EQ(read.inputs[1].name, "b");
  EXPECT_EQ(read.inputs[1].rows, 4);
  EXPECT_EQ(read.of_linear("b.k"), &read.inputs[1]);
  EXPECT_EQ(read.of_linear("c.k"), nullptr);
  EXPECT_TRUE(same_bytes(read.inputs[0].gram, stats.inputs[0].gram));
  write_statistics(folder.path() / "b.safetensors", read);
  EXPECT_EQ(file_bytes(folder.path() / "a.safetensors"),
            file_bytes(folder.path() / "b.safetensors"));
}

AttentionStatistics small_attention(const std::string& name, double noise, double signal) {
  return {.name = name,
          .algorithm = "FP8_DYNAMIC",
          .head_dim = 64,
          .noise = tensor_of<double>({noise, 0}, {kSteps}),
          .signal = tensor_of<double>({signal, 0}, {kSteps})};
}

TEST(Statistics, AttentionsSurviveAFileAndMergeBySums) {
  const TempFolder folder;
  Statistics a = small_statistics(), b = small_statistics();
  a.attentions = {small_attention("b.attn", 1, 100), small_attention("c.attn", 4, 100)};
  write_statistics(folder.path() / "a.safetensors", a);
  const Statistics read = read_statistics(folder.path() / "a.safetensors");
  ASSERT_EQ(read.attentions.size(), 2u);
  EXPECT_EQ(read.of_attention("c.attn")->algorithm, "FP8_DYNAMIC");
  EXPECT_EQ(read.of_attention("c.attn")->head_dim, 64);
  EXPECT_EQ(read.of_attention("c.attn")->error(), 0.04);
  EXPECT_EQ(read.of_attention("b.attn")->step_errors(), (std::vector<double>{0.01, -1}));
  EXPECT_EQ(read.of_attention("d.attn"), nullptr);
  b.attentions = {small_attention("a.attn", 9, 100), small_attention("b.attn", 5, 100)};
  for (const auto& [x, y] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
    const Statistics merged = merge_statistics(*x, *y);
    ASSERT_EQ(merged.attentions.size(), 3u);
    EXPECT_EQ(merged.attentions[0].name, "a.attn");
    EXPECT_EQ(merged.attentions[1].error(), 0.03);
    EXPECT_EQ(merged.attentions[2].error(), 0.04);
  }
  b.attentions[1].head_dim = 128;
  expect_error(ErrorCode::kUsage, {"of other attentions", "FP8_DYNAMIC 64", "FP8_DYNAMIC 128"},
               [&] { merge_statistics(a, b); });
  EXPECT_EQ(merge_statistics(small_statistics(), small_statistics()).attentions.size(), 0u);
}

TEST(Statistics, MergeTakesMaximaSumsAndTheSmallestKeys) {
  Statistics a = small_statistics({2, 9}, 4);
  const Statistics b = small_statistics({1, 5}, 12);
  a.inputs[0].amax = tensor_of<float>({9, 1, 0}, {kK});
  a.inputs[0].mean_abs = tensor_of<double>({4.5, 0.25, 0}, {kK});
  const Statistics merged = merge_statistics(a, b);
  const InputStatistics& in = merged.inputs[0];
  EXPECT_EQ(in.rows, 16);
  EXPECT_EQ(in.amax.data<float>()[0], 9.0f);
  EXPECT_EQ(in.amax.data<float>()[1], 2.0f);
  EXPECT_EQ(in.mean_abs.data<double>()[0], (4.5 * 4 + 0.5 * 12) / 16);
  EXPECT_EQ(in.hist.data<int64_t>()[5], 2);
  EXPECT_EQ(in.gram.data<float>()[5], 12.0f);
  ASSERT_EQ(in.tokens.dim(0), 3);
  const int64_t* keys = in.token_keys.data<int64_t>();
  EXPECT_EQ((std::array{keys[0], keys[1], keys[2]}), (std::array<int64_t, 3>{1, 2, 5}));
  EXPECT_EQ(reinterpret_cast<const uint16_t*>(in.tokens.raw())[kK], 2);  // moved with its key
}

TEST(Statistics, TheOrderOfMergingTokensDoesNotMatter) {
  const Statistics a = small_statistics({2, 9}), b = small_statistics({1, 5}),
                   c = small_statistics({3, 4});
  const Statistics left = merge_statistics(merge_statistics(a, b), c);
  const Statistics right = merge_statistics(a, merge_statistics(c, b));
  EXPECT_TRUE(same_bytes(left.inputs[0].tokens, right.inputs[0].tokens));
  EXPECT_TRUE(same_bytes(left.inputs[0].token_keys, right.inputs[0].token_keys));
}

TEST(Statistics, OtherModelsStepsAndKindsDoNotMerge) {
  const Statistics a = small_statistics();
  const auto refuse = [&](const char* what, const std::function<void(Statistics&)>& change) {
    Statistics b = small_statistics();
    change(b);
    expect_error(ErrorCode::kUsage, {what}, [&] { merge_statistics(a, b); });
  };
  refuse("statistics of other models", [](Statistics& s) { s.model = "other"; });
  refuse("statistics of other steps", [](Statistics& s) { s.sigmas[1] = 0.25f; });
  refuse("statistics of other inputs", [](Statistics& s) { s.inputs[0].gram = {}; });
  refuse("statistics of other inputs", [](Statistics& s) { s.inputs[1].members = {"x"}; });
  refuse("statistics of an unfinished collection", [](Statistics& s) { s.facts["done"] = "1"; });
  refuse("statistics of other numbers of inputs", [](Statistics& s) { s.inputs.pop_back(); });
}

// As our sampler and diffusers' scheduler compute one schedule.
TEST(Statistics, SigmasMayDifferInTheirLastBits) {
  Statistics a = small_statistics(), b = small_statistics();
  b.sigmas[1] = std::nextafter(b.sigmas[1], 1.0f);
  EXPECT_EQ(merge_statistics(a, b).sigmas, a.sigmas);
  b.sigmas[1] = a.sigmas[1] + 1e-4f;
  expect_error(ErrorCode::kUsage, {"other steps"}, [&] { merge_statistics(a, b); });
}

TEST(Statistics, OneFileDoesNotMergeWithItself) {
  const TempFolder folder;
  write_statistics(folder.path() / "a.safetensors", small_statistics());
  const Statistics a = read_statistics(folder.path() / "a.safetensors");
  expect_error(ErrorCode::kUsage, {"count twice", a.run}, [&] { merge_statistics(a, a); });
}

TEST(Statistics, MembersMergeInAnyOrder) {
  Statistics a = small_statistics(), b = small_statistics();
  a.inputs[1].members = {"x", "y"};
  b.inputs[1].members = {"y", "x"};
  EXPECT_EQ(merge_statistics(a, b).inputs[1].members, a.inputs[1].members);
  b.inputs[1].members = {"y", "z"};
  expect_error(ErrorCode::kUsage, {"x y", "y z"}, [&] { merge_statistics(a, b); });
}

TEST(Statistics, KeysAreSpreadAndRepeat) {
  EXPECT_EQ(token_key("x", 5), token_key("x", 5));
  EXPECT_NE(token_key("x", 5), token_key("y", 5));
  int64_t below_half = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t key = token_key("x", i);
    ASSERT_GE(key, 0);
    below_half += key < std::numeric_limits<int64_t>::max() / 2 ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(below_half), 500.0, 64.0);  // four sigma
}

// Every way to damage the file, and what is said about it.
struct Damage {
  const char* message;
  std::function<void(Statistics&)> make;
};

TEST(Statistics, WhatCannotBeIsRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Damage all[] = {
      {"a.amax", [&](auto& s) { s.inputs[0].amax.template mutable_data<float>()[1] = nan; }},
      {"a.amax", [&](auto& s) { s.inputs[0].amax.template mutable_data<float>()[1] = -1; }},
      {"a.mean_abs",
       [&](auto& s) { s.inputs[0].mean_abs.template mutable_data<double>()[0] = nan; }},
      {"a.min", [&](auto& s) { s.inputs[0].min.template mutable_data<float>()[0] = 3; }},
      {"a.min", [&](auto& s) { s.inputs[0].min.template mutable_data<float>()[1] = 0; }},
      {"a.hist", [&](auto& s) { s.inputs[0].hist.template mutable_data<int64_t>()[7] = -1; }},
      {"a.gram", [&](auto& s) { s.inputs[0].gram.template mutable_data<float>()[4] = nan; }},
      {"a.tokens", [](auto& s) { s.inputs[0].tokens = bf16_tokens({0, 0, 0x7f80, 0, 0, 0}, kK); }},
      {"a.token_keys", [](auto& s) { s.inputs[0].token_keys = tensor_of<int64_t>({4, 1}, {2}); }},
      {"a.token_keys", [](auto& s) { s.inputs[0].token_keys = tensor_of<int64_t>({4}, {1}); }},
      {"a.token_steps", [](auto& s) { s.inputs[0].token_steps = tensor_of<int32_t>({0, 2}, {2}); }},
      {"a.tokens", [](auto& s) { s.inputs[0].token_keys = {}; }},
      {"a.count", [](auto& s) { s.inputs[0].rows = 0; }},
      {"a.mean_abs", [](auto& s) { s.inputs[0].mean_abs = {}; }},
      {"a.mean_abs", [](auto& s) { s.inputs[0].mean_abs = tensor_of<double>({0, 0}, {2}); }},
      {"a.gram", [](auto& s) { s.inputs[0].gram = tensor_of<float>({1, 2}, {1, 2}); }},
      {"a.min",
       [](auto& s) {
         s.steps = 3;
         s.sigmas.clear();
       }},
      {"sigmas", [](auto& s) { s.sigmas.pop_back(); }},
      {"steps",
       [](auto& s) {
         s.steps = 0;
         s.sigmas.clear();
       }},
      {"a.tokens", [](auto& s) { s.token_limit = 1; }},
      {"of no input", [](auto& s) { s.inputs.clear(); }},
      {"a.attn.attention_noise",
       [](auto& s) { s.attentions = {small_attention("a.attn", -1, 1)}; }},
      {"a.attn.attention_signal",
       [&](auto& s) { s.attentions = {small_attention("a.attn", 1, nan)}; }},
      {"a.attn.attention_noise",
       [](auto& s) {
         s.attentions = {small_attention("a.attn", 1, 1)};
         s.attentions[0].noise = tensor_of<double>({1}, {1});
       }},
      {"attention:a.attn cannot be read",
       [](auto& s) {
         s.attentions = {small_attention("a.attn", 1, 1)};
         s.attentions[0].head_dim = 0;
       }},
      {"attention:a.attn cannot be read", [](auto& s) {
         s.attentions = {small_attention("a.attn", 1, 1)};
         s.attentions[0].algorithm = "FP8 DYNAMIC";
       }}};
  const TempFolder folder;
  int64_t i = 0;
  for (const Damage& damage : all) {
    Statistics stats = small_statistics();
    damage.make(stats);
    const auto file = folder.path() / (std::to_string(i++) + ".safetensors");
    write_statistics(file, stats);
    expect_error(ErrorCode::kInput, {damage.message, file.string()},
                 [&] { read_statistics(file); });
  }
}

TEST(Statistics, AnyOtherFileIsNamedAsSuch) {
  const TempFolder folder;
  const auto file = folder.path() / "w.safetensors";
  Writer writer(file, {{.name = "w", .dtype = DType::kF32, .shape = {1}}});
  writer.put(std::string("w"), tensor_of<float>({1}, {1}));
  writer.finish();
  expect_error(ErrorCode::kInput, {"no file of statistics", "got none", "mezzotint collect"},
               [&] { read_statistics(file); });
}

TEST(Statistics, ATensorOfNoInputIsRefused) {
  const TempFolder folder;
  const auto file = folder.path() / "s.safetensors";
  Writer writer(file, {{.name = "w", .dtype = DType::kF32, .shape = {1}}},
                {.metadata = {{"mezzotint_stats", "1"}, {"steps", "1"}, {"tokens", "0"}}});
  writer.put(std::string("w"), tensor_of<float>({1}, {1}));
  writer.finish();
  expect_error(ErrorCode::kInput, {"of no input"}, [&] { read_statistics(file); });
}

// --- model identity ------------------------------------------------------------------------------

TEST(ModelIdentity, IsOfTheWeightsNotOfTheShards) {
  const TempFolder folder;
  const auto write = [&](const char* name, float last, int64_t shard) {
    std::filesystem::create_directories(folder.path() / name);
    const auto file = folder.path() / name / "model.safetensors";
    Writer writer(file,
                  {{.name = "b", .dtype = DType::kF32, .shape = {4000}},
                   {.name = "a", .dtype = DType::kF32, .shape = {2}}},
                  {.max_shard_bytes = shard});
    std::vector<float> values(4000, 1.0f);
    values.back() = last;
    writer.put(std::string("b"), tensor_of<float>(values, {4000}));
    writer.put(std::string("a"), tensor_of<float>({1, 2}, {2}));
    writer.finish();
    return model_identity(WeightStore::open(folder.path() / name));
  };
  const std::string whole = write("whole", 1.0f, 0);
  EXPECT_EQ(whole, write("sharded", 1.0f, 16'000));
  EXPECT_NE(whole, write("other", 2.0f, 0));
}

}  // namespace
}  // namespace mezzotint
