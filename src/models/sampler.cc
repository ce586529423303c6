#include "models/sampler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "models/noise.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

enum class Guidance : uint8_t { kNone, kClassifierFree };

void check_f32(const char* what, const Tensor& tensor, size_t rank) {
  if (tensor.dtype() == DType::kF32 && tensor.shape().size() == rank) return;
  throw Error(
      ErrorCode::kUsage, fmt::format("{} of the sampler", what),
      {.expected = fmt::format("F32 with {} dimensions", rank),
       .found = fmt::format("{} {}", dtype_name(tensor.dtype()), to_string(tensor.shape()))});
}

void check_condition(const char* what, const TextCondition& condition) {
  check_f32(what, condition.states, 3);
  check_f32(what, condition.pooled, 2);
}

Guidance check(const FluxTransformer& model, const SampleRequest& request) {
  check_f32("noise", request.noise, 3);
  check_condition("condition", request.condition);
  const int64_t channels = model.config.in_channels;
  if (model.config.velocity_channels() != channels) {
    throw Error(ErrorCode::kUnsupported, "the model's output cannot be added to its input",
                {.expected = fmt::format("{} output channels", channels),
                 .found = fmt::format("{}", model.config.velocity_channels())});
  }
  const Shape expected{request.noise.dim(0), request.rows * request.cols, channels};
  if (request.noise.shape() != expected) {
    throw Error(ErrorCode::kUsage, "noise of the sampler",
                {.expected = to_string(expected), .found = to_string(request.noise.shape())});
  }
  if (request.embedded_guidance.has_value() != model.config.guidance_embeds) {
    throw Error(ErrorCode::kUsage, "embedded guidance",
                {.expected = model.config.guidance_embeds ? "a value" : "none",
                 .found = request.embedded_guidance ? "a value" : "none",
                 .fix = "the model's guidance_embeds decides"});
  }
  if (request.cfg_scale == 1.0f) return Guidance::kNone;
  if (!request.negative) {
    throw Error(ErrorCode::kUsage, "classifier-free guidance needs a negative condition",
                {.expected = "a negative condition, or cfg_scale 1",
                 .found = fmt::format("cfg_scale {} without one", request.cfg_scale)});
  }
  check_condition("negative condition", *request.negative);
  return Guidance::kClassifierFree;
}

// The rows of a, then those of b; b may have one row that stands for all.
Tensor stack(const char* what, const Tensor& a, const Tensor& b) {
  const int64_t batch = a.dim(0);
  Shape expected_one = a.shape();
  expected_one.front() = 1;
  if (b.shape() != a.shape() && b.shape() != expected_one) {
    throw Error(ErrorCode::kUsage, fmt::format("negative {}", what),
                {.expected = fmt::format("{} or {}", to_string(a.shape()), to_string(expected_one)),
                 .found = to_string(b.shape())});
  }
  Shape shape = a.shape();
  shape.front() = 2 * batch;
  Tensor both = Tensor::allocate(DType::kF32, std::move(shape));
  auto* out = std::copy_n(a.data<float>(), a.size(), both.mutable_data<float>());
  for (int64_t done = 0; done < a.size(); done += b.size()) {
    out = std::copy_n(b.data<float>(), b.size(), out);
  }
  return both;
}

// The model's timestep in 0 ... 1: the pipeline divides 1000 sigma by 1000 in the latents' dtype.
float model_timestep(float timestep, TimestepDtype dtype) {
  constexpr float kScale = 1000.0f;
  if (dtype == TimestepDtype::kF32) return timestep / kScale;
  return round_to_bf16(round_to_bf16(timestep) / kScale);
}

// x += dt * v, guided when v holds a second, negative half.
void euler_step(const Tensor& velocity, float dt, Guidance guidance, float cfg_scale,
                const Tensor& x) {
  auto* out = x.mutable_data<float>();
  const float* positive = velocity.data<float>();
  const float* negative = positive + x.size();
  for (int64_t i = 0; i < x.size(); ++i) {
    const float v = guidance == Guidance::kNone
                        ? positive[i]
                        : negative[i] + cfg_scale * (positive[i] - negative[i]);
    out[i] += dt * v;
  }
}

Tensor copy_of(const Tensor& x) {
  return Tensor::copy_of<float>({x.data<float>(), static_cast<size_t>(x.size())}, x.shape());
}

// x once more for every negative condition.
void repeat(const Tensor& x, const Tensor& twice) {
  auto* out = std::copy_n(x.data<float>(), x.size(), twice.mutable_data<float>());
  std::copy_n(x.data<float>(), x.size(), out);
}

// Without guidance the latents are x itself, which the steps change in place.
FluxInput model_input(const SampleRequest& request, Guidance guidance, const Tensor& x) {
  FluxInput input{
      .latents = x, .text = request.condition.states, .pooled = request.condition.pooled};
  input.timestep_dtype = request.timestep_dtype;
  input.activations = request.activations;
  if (guidance == Guidance::kNone) return input;
  input.latents = stack("latents", x, x);
  input.text = stack("text states", request.condition.states, request.negative->states);
  input.pooled = stack("pooled text", request.condition.pooled, request.negative->pooled);
  return input;
}

}  // namespace

Tensor starting_noise(uint64_t seed, uint32_t first_sample, const Shape& shape) {
  Tensor noise = Tensor::allocate(DType::kF32, shape);
  if (noise.empty()) return noise;
  const int64_t per_sample = noise.size() / noise.dim(0);
  auto* values = noise.mutable_data<float>();
  for (int64_t i = 0; i < noise.dim(0); ++i) {
    fill_noise(seed, first_sample + static_cast<uint32_t>(i),
               {values + i * per_sample, static_cast<size_t>(per_sample)});
  }
  return noise;
}

Tensor sample(const FluxTransformer& model, const SchedulerConfig& scheduler,
              const SampleRequest& request, const ExecContext& ctx) {
  const Guidance guidance = check(model, request);
  const int64_t tokens = request.rows * request.cols;
  const Schedule schedule = make_schedule(scheduler, request.steps, tokens);
  const FluxRope rope =
      flux_rope(model.config, request.condition.states.dim(1), request.rows, request.cols);

  const Tensor x = copy_of(request.noise);
  FluxInput input = model_input(request, guidance, x);
  const auto batch = static_cast<size_t>(input.latents.dim(0));
  const std::vector<float> embedded(model.config.guidance_embeds ? batch : 0,
                                    request.embedded_guidance.value_or(0.0f));
  input.guidance = embedded;
  for (int64_t i = 0; i < request.steps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto at = static_cast<size_t>(i);
    const std::vector<float> timestep(
        batch, model_timestep(schedule.timesteps[at], request.timestep_dtype));
    input.timestep = timestep;
    if (guidance == Guidance::kClassifierFree) repeat(x, input.latents);
    const Tensor velocity = model.forward(input, rope, ctx.at_step(static_cast<int>(i)));
    euler_step(velocity, schedule.sigmas[at + 1] - schedule.sigmas[at], guidance, request.cfg_scale,
               x);
    if (request.on_step) {
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      request.on_step({i, request.steps, schedule.sigmas[at], took.count()});
    }
  }
  return x;
}

}  // namespace mezzotint
