#include "models/flux.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/workspace.h"
#include "mezzotint/error.h"
#include "models/flux_rows.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

constexpr float kTimeScale = 1000.0f;

// Memory of one forward pass, taken from the workspace at once.
struct ActivationSizes {
  int64_t rows, batch, width;
  int64_t wide;  // columns of the widest buffer: 5 width, or the output
  DType dtype;

  int64_t floats() const { return rows * width + 13 * batch * width; }
  int64_t bytes() const {
    return floats() * static_cast<int64_t>(sizeof(float)) +
           rows * (4 * width + wide) * dtype_size(dtype);
  }
};

FluxActivations carve(float* memory, const ActivationSizes& sizes) {
  const int64_t plane = sizes.rows * sizes.width;
  const auto take = [&memory](int64_t count) { return std::exchange(memory, memory + count); };
  FluxActivations a;
  a.batch = sizes.batch;
  a.width = sizes.width;
  a.dtype = sizes.dtype;
  a.hidden = take(plane);
  a.silu_temb = take(sizes.batch * sizes.width);
  a.modulation = take(12 * sizes.batch * sizes.width);
  auto* rest = reinterpret_cast<std::byte*>(memory);
  const auto take_plane = [&](int64_t count) {
    return std::exchange(rest, rest + count * dtype_size(sizes.dtype));
  };
  a.normed = take_plane(plane);
  a.q = take_plane(plane);
  a.k = take_plane(plane);
  a.v = take_plane(plane);
  a.wide = take_plane(sizes.rows * sizes.wide);
  return a;
}

// [batch, tokens, channels] of the caller through `linear` into token-major rows.
void embed_tokens(const Linear& linear, const Tensor& x, float* out, const ExecContext& ctx) {
  const int64_t batch = x.dim(0), tokens = x.dim(1), channels = x.dim(2);
  const int64_t rows = batch * tokens;
  const Scratch scratch =
      ctx.workspace().take(rows * channels * static_cast<int64_t>(sizeof(float)));
  auto* gathered = scratch.as<float>();
  to_token_major(x.data<float>(), batch, tokens, channels, gathered);
  const int64_t width = linear.out_features();
  linear.run({gathered, DType::kF32, rows, channels, channels},
             {out, DType::kF32, rows, width, width}, ctx);
}

void check_shape(const char* what, const Tensor& tensor, const Shape& expected) {
  if (tensor.dtype() == DType::kF32 && tensor.shape() == expected) return;
  throw Error(
      ErrorCode::kUsage, fmt::format("{} of the Flux transformer", what),
      {.expected = fmt::format("F32 {}", to_string(expected)),
       .found = fmt::format("{} {}", dtype_name(tensor.dtype()), to_string(tensor.shape()))});
}

void check_count(const char* what, size_t found, int64_t expected) {
  if (static_cast<int64_t>(found) == expected) return;
  throw Error(
      ErrorCode::kUsage, fmt::format("{} of the Flux transformer", what),
      {.expected = fmt::format("{} values", expected), .found = fmt::format("{} values", found)});
}

}  // namespace

FluxTransformer::FluxTransformer(FluxLoader& loader, const FluxConfig& c)
    : config(c),
      x_embedder(loader.linear("x_embedder", c.width(), c.in_channels)),
      context_embedder(loader.linear("context_embedder", c.width(), c.joint_attention_dim)),
      timestep_embedder(loader, "time_text_embed.timestep_embedder", kTimeChannels, c.width()),
      text_embedder(loader, "time_text_embed.text_embedder", c.pooled_projection_dim, c.width()),
      norm_out(loader.linear("norm_out.linear", 2 * c.width(), c.width())),
      proj_out(loader.linear("proj_out", c.velocity_channels(), c.width())) {
  if (c.guidance_embeds) {
    guidance_embedder =
        FluxEmbedder(loader, "time_text_embed.guidance_embedder", kTimeChannels, c.width());
  }
  for (int64_t i = 0; i < c.num_layers; ++i) {
    transformer_blocks.emplace_back(loader, c, fmt::format("transformer_blocks.{}", i));
  }
  for (int64_t i = 0; i < c.num_single_layers; ++i) {
    single_transformer_blocks.emplace_back(loader, c,
                                           fmt::format("single_transformer_blocks.{}", i));
  }
}

std::unique_ptr<FluxTransformer> FluxTransformer::load(const WeightStore& store,
                                                       const FluxConfig& config, Missing missing) {
  FluxLoader loader(store, missing);
  std::unique_ptr<FluxTransformer> model(new FluxTransformer(loader, config));
  loader.refuse_unread();
  return model;
}

ModuleMap FluxTransformer::modules() {
  ModuleMap map;
  map.linears = {&x_embedder, &context_embedder};
  timestep_embedder.add_modules(map);
  if (config.guidance_embeds) guidance_embedder.add_modules(map);
  text_embedder.add_modules(map);
  for (FluxDoubleBlock& block : transformer_blocks) block.add_modules(map);
  for (FluxSingleBlock& block : single_transformer_blocks) block.add_modules(map);
  map.linears.insert(map.linears.end(), {&norm_out, &proj_out});
  return map;
}

void FluxTransformer::check(const FluxInput& input, const FluxRope& rope) const {
  const int64_t batch = input.latents.shape().empty() ? 0 : input.latents.dim(0);
  check_shape("latents", input.latents, {batch, rope.image_tokens, config.in_channels});
  check_shape("text", input.text, {batch, rope.text_tokens, config.joint_attention_dim});
  check_shape("pooled", input.pooled, {batch, config.pooled_projection_dim});
  check_shape("position tables", rope.cos,
              {rope.text_tokens + rope.image_tokens, config.attention_head_dim / 2});
  if (input.activations != DType::kF32 && input.activations != DType::kBF16) {
    throw Error(ErrorCode::kUsage, "activations of the Flux transformer",
                {.expected = "F32 or BF16", .found = std::string(dtype_name(input.activations))});
  }
  check_count("timestep", input.timestep.size(), batch);
  check_count("guidance", input.guidance.size(), config.guidance_embeds ? batch : 0);
}

// silu((time + guidance) + pooled): every modulation starts with the same silu.
void FluxTransformer::embed_conditions(const FluxInput& input, float* silu_temb,
                                       const ExecContext& ctx) const {
  const int64_t batch = input.latents.dim(0);
  const int64_t count = batch * config.width();
  std::vector<float> projection(static_cast<size_t>(batch * kTimeChannels));
  std::vector<float> part(static_cast<size_t>(count));
  const auto project = [&](std::span<const float> values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const bool bf16 = input.timestep_dtype == TimestepDtype::kBF16;
      const float scaled =
          bf16 ? round_to_bf16(round_to_bf16(values[i]) * kTimeScale) : values[i] * kTimeScale;
      flux_time_projection(scaled, projection.data() + i * kTimeChannels);
    }
  };
  const auto add_part = [&] {
    for (int64_t i = 0; i < count; ++i) silu_temb[i] += part[static_cast<size_t>(i)];
  };
  project(input.timestep);
  timestep_embedder.forward(projection.data(), silu_temb, batch, ctx);
  if (config.guidance_embeds) {
    project(input.guidance);
    guidance_embedder.forward(projection.data(), part.data(), batch, ctx);
    add_part();
  }
  text_embedder.forward(input.pooled.data<float>(), part.data(), batch, ctx);
  add_part();
  silu_values(silu_temb, silu_temb, count, ctx);
}

Tensor FluxTransformer::forward(const FluxInput& input, const FluxRope& rope,
                                const ExecContext& ctx) const {
  check(input, rope);
  const int64_t batch = input.latents.dim(0);
  const int64_t channels = config.velocity_channels();
  const ActivationSizes sizes{.rows = batch * (rope.text_tokens + rope.image_tokens),
                              .batch = batch,
                              .width = config.width(),
                              .wide = std::max(5 * config.width(), channels),
                              .dtype = input.activations};
  const Scratch scratch = ctx.workspace().take(sizes.bytes());
  FluxActivations a = carve(scratch.as<float>(), sizes);
  a.text_tokens = rope.text_tokens;
  a.image_tokens = rope.image_tokens;
  a.rope = &rope;

  embed_conditions(input, a.silu_temb, ctx);
  float* image = a.hidden + a.text_rows() * a.width;
  embed_tokens(context_embedder, input.text, a.hidden, ctx);
  embed_tokens(x_embedder, input.latents, image, ctx);
  for (const FluxDoubleBlock& block : transformer_blocks) block.forward(a, ctx);
  for (const FluxSingleBlock& block : single_transformer_blocks) block.forward(a, ctx);

  // norm_out has its two chunks in the other order: scale, shift.
  const int64_t rows = a.image_rows();
  norm_out.run({a.silu_temb, DType::kF32, batch, a.width, a.width},
               {a.modulation, DType::kF32, batch, 2 * a.width, 2 * a.width}, ctx);
  const PerSample scale{a.modulation, batch, 2 * a.width};
  const PerSample shift{a.modulation + a.width, batch, 2 * a.width};
  const Rows normed = a.part(a.normed, 0, rows);
  modulate_rows(a.state(a.text_rows(), rows), scale, shift, normed, ctx);
  const Rows out{a.wide, a.dtype, rows, channels, channels};
  proj_out.run(normed.const_matrix(), out.matrix(), ctx);
  Tensor velocity = Tensor::allocate(DType::kF32, {batch, rope.image_tokens, channels});
  from_token_major(out, batch, rope.image_tokens, velocity.mutable_data<float>());
  return velocity;
}

}  // namespace mezzotint
