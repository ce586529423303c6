// Flow-matching Euler sampling (diffusers' FlowMatchEulerDiscreteScheduler as the Flux pipeline
// drives it) with optional classifier-free guidance.
//
//   SchedulerConfig scheduler = read_scheduler_config("demo");
//   Tensor noise = starting_noise(/*seed=*/7, /*first_sample=*/0, {1, 64, 64});
//   Tensor latents = sample(*model, scheduler, {.noise = noise, .condition = prompt, .rows = 8,
//                                               .cols = 8, .steps = 20}, ctx);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "models/flux.h"

namespace mezzotint {

enum class ShiftRule : uint8_t {
  kStatic,   // sigma <- s sigma / (1 + (s - 1) sigma)
  kDynamic,  // sigma <- e^mu / (e^mu + (1 / sigma - 1)), mu linear in the number of image tokens
};

struct SchedulerConfig {
  int64_t num_train_timesteps = 1000;
  ShiftRule rule = ShiftRule::kStatic;
  double shift = 1.0;
  double base_shift = 0.5;  // mu at base_image_seq_len
  double max_shift = 1.15;  // mu at max_image_seq_len
  int64_t base_image_seq_len = 256;
  int64_t max_image_seq_len = 4096;
};

// `path` is scheduler_config.json, its folder, or a pipeline folder with scheduler/. What diffusers
// offers beyond SchedulerConfig (Karras sigmas, a terminal shift, ...) is an error when switched
// on.
SchedulerConfig read_scheduler_config(const std::filesystem::path& path);

struct Schedule {
  std::vector<float> sigmas;     // steps + 1 values, from the shifted 1 down to 0
  std::vector<float> timesteps;  // steps values, num_train_timesteps * sigma
};

// The pipeline's schedule: linspace(1, 1/steps, steps), shifted once, then 0. (Without the
// pipeline, diffusers' set_timesteps(steps) shifts a second time and ends at sigma = 0.001.)
Schedule make_schedule(const SchedulerConfig& config, int64_t steps, int64_t image_tokens);

// One line of text for each sample.
struct TextCondition {
  Tensor states;  // F32 [batch, text_tokens, joint_attention_dim]
  Tensor pooled;  // F32 [batch, pooled_projection_dim]
};

struct StepInfo {
  int64_t step = 0;  // 0 ... steps - 1, called after the step
  int64_t steps = 0;
  float sigma = 0;     // at the start of the step
  double seconds = 0;  // this step took
};

struct SampleRequest {
  Tensor noise;  // F32 [batch, rows * cols, in_channels]
  TextCondition condition;
  std::optional<TextCondition> negative{};  // batch or 1 sample; needed when cfg_scale != 1
  int64_t rows = 0;                         // grid of image tokens
  int64_t cols = 0;
  int64_t steps = 0;
  float cfg_scale = 1.0f;                    // v = v_negative + cfg_scale (v - v_negative)
  std::optional<float> embedded_guidance{};  // exactly when the model has guidance_embeds
  TimestepDtype timestep_dtype = TimestepDtype::kF32;
  DType activations = DType::kF32;  // FluxInput's
  std::function<void(const StepInfo&)> on_step{};
};

// The latents at sigma = 0: F32 [batch, rows * cols, in_channels]. Both conditions of a step run in
// one forward pass, with ctx.at_step(i).
Tensor sample(const FluxTransformer& model, const SchedulerConfig& scheduler,
              const SampleRequest& request, const ExecContext& ctx);

// N(0,1) by src/models/noise.h; sample i of the tensor is sample first_sample + i of the seed.
// shape is [samples, tokens, channels].
Tensor starting_noise(uint64_t seed, uint32_t first_sample, const Shape& shape);

}  // namespace mezzotint
