// One denoising step of the demo model, with and without a second condition.

#include <benchmark/benchmark.h>

#include <filesystem>
#include <vector>

#include "models/flux.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

void BM_DemoStep(benchmark::State& state) {
  const ExecContext ctx({.threads = static_cast<int>(state.range(1))});
  const int64_t batch = state.range(0);
  const auto model = load_flux(std::filesystem::path(MZ_SOURCE_DIR) / "demo", ctx);
  const FluxConfig& config = model->config;
  const FluxRope rope = flux_rope(config, 16, 8, 8);
  const std::vector<float> timestep(static_cast<size_t>(batch), 0.5f);
  const Tensor text = starting_noise(2, 0, {batch, 16, config.joint_attention_dim});
  const FluxInput input{.latents = starting_noise(1, 0, {batch, 64, config.in_channels}),
                        .text = text,
                        .pooled = starting_noise(3, 0, {1, batch, config.pooled_projection_dim})
                                      .reshaped({batch, config.pooled_projection_dim}),
                        .timestep = timestep};
  for (auto _ : state) {
    Tensor velocity = model->forward(input, rope, ctx);
    benchmark::DoNotOptimize(velocity);
  }
  state.counters["images/s/step"] =
      benchmark::Counter(static_cast<double>(batch), benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(BM_DemoStep)
    ->ArgNames({"batch", "threads"})
    ->Args({2, 1})
    ->Args({2, 2})
    ->Args({32, 1})
    ->Args({32, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace mezzotint
