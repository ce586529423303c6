// The shipped model, and models that a script wrote beside what diffusers computes for them.

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "models/flux.h"
#include "models/flux_testing.h"
#include "models/json_file.h"
#include "models/prompts.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = MZ_SOURCE_DIR;
constexpr double kParity = 1e-5;

TEST(FluxDemoModel, MatchesDiffusers) {
  const fs::path golden_file = kRoot / "testdata" / "flux" / "demo.json";
  if (!fs::exists(golden_file)) GTEST_SKIP() << "no golden: run ./x goldens";
  const JsonFile golden = JsonFile::read(golden_file);
  const ExecContext ctx({.threads = 2});
  const auto model = load_flux(kRoot / "demo", ctx);
  const PromptSet prompts = read_prompts(kRoot / "demo");
  const std::vector<int64_t> prompt{golden.integer("prompt", 0)};
  const TextCondition condition = prompts.embeddings.select(prompt);
  const std::vector<float> timestep{static_cast<float>(golden.number("timestep"))};
  const auto seed = static_cast<uint64_t>(golden.integer("noise_seed", 0));
  const Tensor velocity = model->forward({.latents = starting_noise(seed, 0, {1, 64, 64}),
                                          .text = condition.states,
                                          .pooled = condition.pooled,
                                          .timestep = timestep},
                                         flux_rope(model->config, 16, 8, 8), ctx);
  std::vector<float> kept;
  for (int64_t token = 0; token < 64; token += golden.integer("token_stride", 1)) {
    const float* row = velocity.data<float>() + token * 64;
    kept.insert(kept.end(), row, row + 64);
  }
  const std::vector<double> numbers = golden.numbers("velocity");
  const std::vector<float> expected(numbers.begin(), numbers.end());
  ASSERT_EQ(kept.size(), expected.size());
  const double error = testing::relative_l2(kept, expected);
  RecordProperty("relative_l2", std::to_string(error));
  EXPECT_LE(error, kParity);
}

// tools/compare_flux_live.py writes one folder per model: config.json, weights, io.safetensors with
// inputs and diffusers' output.
TEST(SlowFluxLive, MatchesDiffusersOnEveryModelOfTheScript) {
  const fs::path folder = kRoot / "build" / "flux_live";
  if (!fs::exists(folder)) GTEST_SKIP() << "needs torch: run tools/compare_flux_live.py";
  const ExecContext ctx({.threads = 2});
  int cases = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    const auto model = load_flux(entry.path() / "transformer", ctx);
    const WeightStore io = WeightStore::open_file(entry.path() / "io.safetensors");
    const Tensor text = io.read("text"), ids = io.read("ids");
    const Tensor timestep = io.read("timestep");
    FluxInput input{.latents = io.read("latents"),
                    .text = text,
                    .pooled = io.read("pooled"),
                    .timestep = testing::values_of(timestep)};
    Tensor guidance;
    if (io.find("guidance")) {
      guidance = io.read("guidance");
      input.guidance = testing::values_of(guidance);
    }
    const FluxRope rope = flux_rope(model->config, text.dim(1), testing::values_of(ids));
    const Tensor velocity = model->forward(input, rope, ctx);
    const Tensor expected = io.read("velocity");
    ASSERT_EQ(velocity.shape(), expected.shape()) << entry.path();
    const double error =
        testing::relative_l2(testing::values_of(velocity), testing::values_of(expected));
    std::printf("%s: relative L2 %.3g\n", entry.path().filename().c_str(), error);
    EXPECT_LE(error, kParity) << entry.path();
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace mezzotint
