// For tests: the command line in-process, and small models to run it on.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/run_cli.h"
#include "mezzotint/weights.h"
#include "models/flux_testing.h"
#include "quant/file_fixture.h"

namespace mezzotint::cli::testing {

struct CliResult {
  int code = 0;
  std::string out;
  std::string err;
};

inline CliResult run(std::vector<std::string> arguments, const Terminal& terminal = {}) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = run_cli(std::move(arguments), terminal, out, err);
  return {code, out.str(), err.str()};
}

// stdout as JSON; the arguments get --json.
inline nlohmann::json run_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const CliResult result = run(std::move(arguments));
  EXPECT_TRUE(nlohmann::json::accept(result.out)) << result.out << result.err;
  return nlohmann::json::parse(result.out, nullptr, false);
}

inline ::testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << part << "' is not in:\n" << text;
}

// A wrong command line: its exit code and a part of what stderr says.
struct WrongInput {
  std::vector<std::string> arguments;
  int code;
  std::string message;
};

inline void expect_refused(const std::vector<WrongInput>& cases) {
  for (const WrongInput& wrong : cases) {
    const CliResult result = run(wrong.arguments);
    const std::string line = ::testing::PrintToString(wrong.arguments);
    EXPECT_EQ(result.code, wrong.code) << line << result.err;
    EXPECT_TRUE(contains(result.err, wrong.message)) << line;
    EXPECT_TRUE(result.err.starts_with("error: ")) << line << result.err;
    EXPECT_EQ(result.out, "") << line;
  }
}

// Four linears of K = 64 and one of K = 8; one has no bias.
inline std::filesystem::path write_small_model(const std::filesystem::path& file) {
  const std::vector<TensorPlan> plan = {{"blocks.0.to_q.weight", DType::kBF16, {64, 64}},
                                        {"blocks.0.to_q.bias", DType::kBF16, {64}},
                                        {"blocks.0.ff.weight", DType::kBF16, {128, 64}},
                                        {"blocks.1.to_q.weight", DType::kBF16, {64, 64}},
                                        {"blocks.1.to_q.bias", DType::kBF16, {64}},
                                        {"blocks.1.ff.weight", DType::kBF16, {128, 64}},
                                        {"patch.weight", DType::kBF16, {64, 8}},
                                        {"norm.weight", DType::kF32, {64}}};
  std::mt19937_64 random(7);
  Writer writer(file, plan);
  for (const TensorPlan& tensor : plan) {
    writer.put(tensor.name, normal_tensor(tensor.dtype, tensor.shape, random));
  }
  writer.finish();
  return file;
}

inline FluxConfig tiny_flux() {
  FluxConfig config;
  config.in_channels = 16;
  config.out_channels = 16;
  config.num_layers = 1;
  config.num_single_layers = 1;
  config.attention_head_dim = 32;
  config.num_attention_heads = 1;
  config.joint_attention_dim = 32;
  config.pooled_projection_dim = 32;
  config.axes_dims_rope = {8, 12, 12};
  return config;
}

constexpr const char* kTinyPixels = R"({"channels": "RGBA", "size": 16, "value_range": [-1, 1],
 "unshuffle": 1, "latent_shape": [4, 16, 16], "text_tokens": 4, "default_steps": 2,
 "guidance_scale": 2.0, "colors": [{"name": "red", "rgb": [230, 25, 25]},
 {"name": "blue", "rgb": [30, 60, 220]}]})";

constexpr const char* kTinyPrompts = R"([{"id": 0, "text": "a red <bag> on blue", "class": 0,
 "class_name": "bag", "object_color": "red", "background_color": "blue"},
 {"id": 1, "text": "a blue bag on red", "class": 0, "class_name": "bag", "object_color": "blue",
 "background_color": "red"}])";

constexpr const char* kTinyScheduler = R"({"_class_name": "FlowMatchEulerDiscreteScheduler",
 "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false})";

// A pipeline folder with random weights: two prompts, 16 x 16 pixels, no classifier.
inline std::filesystem::path write_tiny_pipeline(const std::filesystem::path& folder) {
  namespace models = mezzotint::testing;
  models::write_random_flux(folder / "transformer", tiny_flux(), 3);
  std::filesystem::create_directories(folder / "scheduler");
  write_text(folder / "scheduler" / "scheduler_config.json", kTinyScheduler);
  write_text(folder / "pixels.json", kTinyPixels);
  write_text(folder / "prompts.json", kTinyPrompts);
  const std::vector<TensorPlan> plan = {{"states", DType::kF32, {2, 4, 32}},
                                        {"pooled", DType::kF32, {2, 32}},
                                        {"null_states", DType::kF32, {4, 32}},
                                        {"null_pooled", DType::kF32, {32}}};
  Writer writer(folder / "prompts.safetensors", plan);
  for (const TensorPlan& t : plan) writer.put(t.name, models::named_noise(t.name, 1, t.shape));
  writer.finish();
  return folder;
}

// A verb on a model in a folder that disappears with the test.
class VerbTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  TestFolder folder_;
  std::string model_;
};

class SmallModelTest : public VerbTest {
 protected:
  SmallModelTest() { model_ = write_small_model(folder_ / "model.safetensors").string(); }
};

class TinyPipelineTest : public VerbTest {
 protected:
  TinyPipelineTest() { model_ = write_tiny_pipeline(folder_ / "model").string(); }
};

}  // namespace mezzotint::cli::testing
