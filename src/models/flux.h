// Flux: diffusers' FluxTransformer2DModel, float or quantized.
//
//   std::unique_ptr<FluxTransformer> model = load_flux("demo", ctx);      // or a quantized folder
//   FluxRope rope = flux_rope(model->config, 16, 8, 8);
//   Tensor v = model->forward({.latents = x, .text = states, .pooled = p, .timestep = t}, rope,
//   ctx);
//
// forward() is const and may be called from several threads. Nothing here knows of quantization:
// quantize(model->modules(), ...) swaps what the linears hold.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>

#include "mezzotint/context.h"
#include "mezzotint/linear.h"
#include "mezzotint/quantize.h"
#include "mezzotint/tensor.h"
#include "mezzotint/weights.h"
#include "models/flux_blocks.h"
#include "models/flux_config.h"
#include "models/flux_loader.h"
#include "models/flux_rope.h"

namespace mezzotint {

// The dtype in which diffusers scales timestep and guidance by 1000. A bf16 pipeline rounds there,
// which changes the embedding visibly (937.5 -> 936).
enum class TimestepDtype : uint8_t { kF32, kBF16 };

struct FluxInput {
  Tensor latents;                     // F32 [batch, image_tokens, in_channels]
  Tensor text;                        // F32 [batch, text_tokens, joint_attention_dim]
  Tensor pooled;                      // F32 [batch, pooled_projection_dim]
  std::span<const float> timestep{};  // [batch], 0 ... 1
  std::span<const float> guidance{};  // [batch] when the model has guidance_embeds, else empty
  TimestepDtype timestep_dtype = TimestepDtype::kF32;
  // What the linears and attentions of the blocks read and write: F32 or BF16. Sums over blocks,
  // norms and the embeddings are F32 in either.
  DType activations = DType::kF32;
};

struct FluxTransformer {
  // Every expected tensor must be there with the right shape, and no other.
  static std::unique_ptr<FluxTransformer> load(const WeightStore& store, const FluxConfig& config,
                                               Missing missing = Missing::kRefuse);

  FluxTransformer(const FluxTransformer&) = delete;  // groups and ModuleMaps point into it
  FluxTransformer& operator=(const FluxTransformer&) = delete;

  ModuleMap modules();

  // The velocity, noise - image: F32 [batch, image_tokens, velocity_channels].
  Tensor forward(const FluxInput& input, const FluxRope& rope, const ExecContext& ctx) const;

  FluxConfig config;
  Linear x_embedder, context_embedder;
  FluxEmbedder timestep_embedder, guidance_embedder, text_embedder;
  std::deque<FluxDoubleBlock> transformer_blocks;
  std::deque<FluxSingleBlock> single_transformer_blocks;
  Linear norm_out;  // .linear: scale, shift
  Linear proj_out;

 private:
  FluxTransformer(FluxLoader& loader, const FluxConfig& config);
  void check(const FluxInput& input, const FluxRope& rope) const;
  void embed_conditions(const FluxInput& input, float* silu_temb, const ExecContext& ctx) const;
};

// Reads config.json and weights of a float model folder, or of a quantized folder or descriptor
// (`options` are quantize()'s). Throws when a linear is left without weights.
// `report`, when given, receives what quantize() said. `original`, the float model, is asked for
// config.json where the quantized folder has none: upstream's exporter writes none.
std::unique_ptr<FluxTransformer> load_flux(const std::filesystem::path& path,
                                           const ExecContext& ctx,
                                           const QuantizeOptions& options = {},
                                           Report* report = nullptr,
                                           const std::filesystem::path& original = {});

// Whether load_flux() would read `path` as quantized: a descriptor, or a folder that holds one.
bool is_quantized_path(const std::filesystem::path& path);

}  // namespace mezzotint
