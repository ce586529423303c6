#include <algorithm>
#include <string>

#include "cli/cli_testing.h"
#include "cli/layer_costs.h"
#include "quant/algorithm.h"

namespace mezzotint::cli::testing {
namespace {

constexpr const char* kShapes =
    "model tiny\ntokens small img 24 txt 8\ntokens large img 48 txt 8\n"
    "linear img 64 128 3 to_q\nlinear cond 128 64 2 norm\nlinear img 64 16 1 patch\n";

class Bench : public SmallModelTest {
 protected:
  std::string shapes(const std::string& text = kShapes) {
    write_text(folder_ / "tiny.txt", text);
    return path("tiny.txt");
  }
};

const nlohmann::json& line_of(const nlohmann::json& document, const std::string& algorithm) {
  const nlohmann::json& lines = document.at("algorithms");
  const auto it = std::ranges::find_if(
      lines, [&](const nlohmann::json& line) { return line.at("algorithm") == algorithm; });
  if (it == lines.end()) throw std::runtime_error(algorithm + " is missing");
  return *it;
}

TEST_F(Bench, SaysWhatEveryServedAlgorithmCosts) {
  const nlohmann::json document = run_json({"bench", "--shapes", shapes()});
  EXPECT_EQ(document.at("of"), "tiny small");
  int served = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status != AlgorithmStatus::kServed || row.contract == nullptr) continue;
    if (row.name != row.canonical) continue;
    const nlohmann::json& line = line_of(document, std::string(row.name));
    EXPECT_EQ(line.at("layers"), 5) << row.name;  // K = 16 stays float
    EXPECT_GT(line.at("seconds"), 0) << row.name;
    EXPECT_GT(line.at("times_faster"), 0) << row.name;
    ++served;
  }
  EXPECT_EQ(document.at("algorithms").size(), static_cast<size_t>(served));
}

// 3 layers of [64,128] and 2 of [128,64], biases F32; the headers of packed weights are 64 bytes.
TEST_F(Bench, CountsTheBytesOfAllLayers) {
  const nlohmann::json document =
      run_json({"bench", "--shapes", shapes(), "--algo", "w8a16,w4a4_mxfp4"});
  ASSERT_EQ(document.at("algorithms").size(), 2U);
  const int64_t biases = (3 * 64 + 2 * 128) * 4 + 5 * 64;
  const int64_t weights = 5 * 64 * 128;
  EXPECT_EQ(line_of(document, "W8A16").at("float_bytes"), 2 * weights + biases);
  EXPECT_EQ(line_of(document, "W8A16").at("bytes"), weights + (3 * 64 + 2 * 128) * 4 + biases);
  EXPECT_EQ(line_of(document, "W4A4_MXFP4").at("bytes"), weights / 2 + weights / 32 + biases);
}

TEST_F(Bench, TakesTheLayersThatQuantizeWouldConvert) {
  const nlohmann::json document =
      run_json({"bench", model_, "--rows", "16", "--algo", "W8A8_DYNAMIC"});
  EXPECT_EQ(line_of(document, "W8A8_DYNAMIC").at("layers"), 4);
  const CliResult text = run({"bench", model_, "--rows", "16", "--algo", "W8A8_DYNAMIC"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_TRUE(contains(text.out, "W8A8_DYNAMIC"));
  EXPECT_TRUE(contains(text.out, "times"));
}

TEST_F(Bench, MeasuresTheAttentionsOfShapesBesideFloatOnes) {
  const std::string with_attentions = std::string(kShapes) +
                                      "attention joint joint 2 64 3 self\n"
                                      "attention img txt 2 64 1 cross\n";
  const nlohmann::json all = run_json({"bench", "--shapes", shapes(with_attentions)});
  const nlohmann::json& line = line_of(all, "FP8_DYNAMIC (attention)");
  EXPECT_EQ(line.at("layers"), 4);
  EXPECT_EQ(line.at("bytes"), 4 * 2 * 64 * 64 * 4);  // two rotations each, F32
  EXPECT_EQ(line.at("float_bytes"), 0);
  EXPECT_GT(line.at("seconds"), 0);
  EXPECT_GT(line.at("times_faster"), 0);
  const nlohmann::json alone =
      run_json({"bench", "--shapes", shapes(with_attentions), "--algo", "fp8_dynamic"});
  EXPECT_EQ(alone.at("algorithms").size(), 1U);
  expect_refused({{{"bench", "--shapes", shapes(), "--algo", "fp8_dynamic"}, 2, "no layer"}});
}

// A double and a single block.
TEST_F(Bench, MeasuresTheAttentionsThatThePresetOfAModelKnows) {
  mezzotint::testing::write_random_flux(folder_ / "flux", tiny_flux(), 3);
  const nlohmann::json document =
      run_json({"bench", path("flux"), "--rows", "32", "--algo", "fp8_dynamic"});
  ASSERT_EQ(document.at("algorithms").size(), 1U);
  const nlohmann::json& line = line_of(document, "FP8_DYNAMIC (attention)");
  EXPECT_EQ(line.at("layers"), 2);
  EXPECT_GT(line.at("times_faster"), 0);
}

// Linears are measured all the same.
TEST_F(Bench, LeavesOutAttentionsWhoseHeadsItCannotTell) {
  const auto bench_of = [&](const Shape& norm_q, const Shape& to_q) {
    const std::string attention = "transformer_blocks.0.attn.";
    const std::vector<TensorPlan> plan = {
        {"x_embedder.weight", DType::kF32, {64, 64}},
        {"context_embedder.weight", DType::kF32, {64, 64}},
        {"transformer_blocks.0.norm1_context.linear.weight", DType::kF32, {64, 64}},
        {"single_transformer_blocks.0.proj_mlp.weight", DType::kF32, {64, 64}},
        {attention + "norm_q.weight", DType::kF32, norm_q},
        {attention + "to_q.weight", DType::kF32, to_q}};
    Writer writer(folder_ / "odd.safetensors", plan);
    for (const TensorPlan& t : plan) writer.put(t.name, Tensor::allocate(t.dtype, t.shape));
    writer.finish();
    return run({"bench", path("odd.safetensors"), "--rows", "8", "--algo", "w8a16,fp8_dynamic"});
  };
  for (const Shape& to_q : {Shape{96, 64}, Shape{0, 64}, Shape{64}, Shape{}}) {
    const CliResult result = bench_of({64}, to_q);
    EXPECT_EQ(result.code, 0) << to_string(to_q) << result.err;
    EXPECT_TRUE(contains(result.err, "transformer_blocks.0.attn is not measured"));
    EXPECT_TRUE(contains(result.out, "W8A16"));
  }
  const CliResult result = bench_of({0}, {64, 64});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "attentions are not measured: the head_dim"));
}

TEST_F(Bench, CountsRowsBeyondTheMeasuredOnesInProportion) {
  const ExecContext ctx({.threads = 1});
  LayerCosts costs(8, ctx);
  const LayerCost measured = costs.of("W8A8_DYNAMIC", {.m = 8, .n = 32, .k = 64});
  const LayerCost more = costs.of("W8A8_DYNAMIC", {.m = 24, .n = 32, .k = 64, .layers = 2});
  EXPECT_DOUBLE_EQ(more.seconds, 6 * measured.seconds);
  EXPECT_EQ(more.bytes, 2 * measured.bytes);
  // Files of both are computed alike: one measurement.
  EXPECT_EQ(costs.of("W8A8_PER_CHANNEL_PER_TOKEN", {.m = 8, .n = 32, .k = 64}).seconds,
            measured.seconds);
}

TEST_F(Bench, RefusesWhatItCannotMeasure) {
  expect_refused({{{"bench"}, 2, "one thing"},
                  {{"bench", model_, "--shapes", shapes()}, 2, "one thing"},
                  {{"bench", model_, "--algo", "w8a9"}, 4, "unknown algorithm"},
                  {{"bench", model_, "--algo", "fp8_dynamic"}, 2, "no layer"},
                  {{"bench", "--shapes", shapes(), "--resolution", "huge"}, 2, "resolution"},
                  {{"bench", "--shapes", path("none.txt")}, 3, "cannot be read"},
                  {{"bench", "--shapes", shapes(), "--rows-at-most", "0"}, 2, "whole number"}});
}

}  // namespace
}  // namespace mezzotint::cli::testing
