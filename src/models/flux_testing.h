// For tests: Flux models with random weights that Python can make again without a file
// (tools/goldens/flux_reference.py), and the tensors a Flux file holds.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "format/temp_folder.h"
#include "mezzotint/tensor.h"
#include "mezzotint/weights.h"
#include "models/flux_config.h"
#include "models/noise.h"

namespace mezzotint::testing {

// FNV-1a of the name, plus the seed of the model: every tensor has noise of its own.
inline uint64_t seed_of(std::string_view name, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash + seed;
}

// N(0,1) named like a tensor; the inputs of a model are "input.latents" and so on.
inline Tensor named_noise(std::string_view name, uint64_t seed, const Shape& shape) {
  Tensor tensor = Tensor::allocate(DType::kF32, shape);
  fill_noise(seed_of(name, seed), 0,
             {tensor.mutable_data<float>(), static_cast<size_t>(tensor.size())});
  return tensor;
}

// Matrices: noise / sqrt(k). Vectors: bias 0.1 noise, norm weight 1 + 0.1 noise.
inline Tensor random_parameter(const TensorPlan& plan, uint64_t seed) {
  Tensor tensor = named_noise(plan.name, seed, plan.shape);
  const bool matrix = plan.shape.size() == 2;
  const float scale =
      matrix ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(plan.shape[1]))) : 0.1f;
  const float offset = !matrix && plan.name.ends_with(".weight") ? 1.0f : 0.0f;
  auto* values = tensor.mutable_data<float>();
  for (int64_t i = 0; i < tensor.size(); ++i) values[i] = offset + scale * values[i];
  return tensor;
}

// Every tensor of a Flux file, from the list of the specification.
class FluxTensors {
 public:
  FluxTensors(const FluxConfig& c, DType dtype) : dtype_(dtype) {
    const int64_t h = c.width();
    linear("x_embedder", h, c.in_channels);
    linear("context_embedder", h, c.joint_attention_dim);
    embedder("timestep_embedder", 256, h);
    if (c.guidance_embeds) embedder("guidance_embedder", 256, h);
    embedder("text_embedder", c.pooled_projection_dim, h);
    for (int64_t i = 0; i < c.num_layers; ++i) double_block(c, i);
    for (int64_t i = 0; i < c.num_single_layers; ++i) single_block(c, i);
    linear("norm_out.linear", 2 * h, h);
    linear("proj_out", c.patch_size * c.patch_size * c.out_channels, h);
  }
  const std::vector<TensorPlan>& plan() const { return plan_; }

 private:
  void linear(const std::string& name, int64_t n, int64_t k) {
    plan_.push_back({name + ".weight", dtype_, {n, k}});
    plan_.push_back({name + ".bias", dtype_, {n}});
  }
  void embedder(const std::string& name, int64_t k, int64_t h) {
    linear("time_text_embed." + name + ".linear_1", h, k);
    linear("time_text_embed." + name + ".linear_2", h, h);
  }
  void norms(const FluxConfig& c, const std::string& attn, std::span<const char* const> names) {
    for (const char* name : names) {
      plan_.push_back({attn + name + ".weight", dtype_, {c.attention_head_dim}});
    }
  }
  void double_block(const FluxConfig& c, int64_t i) {
    const int64_t h = c.width();
    const std::string block = fmt::format("transformer_blocks.{}.", i);
    for (const char* name : {"norm1.linear", "norm1_context.linear"})
      linear(block + name, 6 * h, h);
    for (const char* name : {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj",
                             "add_v_proj", "to_add_out"}) {
      linear(block + "attn." + name, h, h);
    }
    constexpr const char* kNorms[] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    norms(c, block + "attn.", kNorms);
    for (const char* name : {"ff", "ff_context"}) {
      linear(block + name + ".net.0.proj", 4 * h, h);
      linear(block + name + ".net.2", h, 4 * h);
    }
  }
  void single_block(const FluxConfig& c, int64_t i) {
    const int64_t h = c.width();
    const std::string block = fmt::format("single_transformer_blocks.{}.", i);
    linear(block + "norm.linear", 3 * h, h);
    linear(block + "proj_mlp", 4 * h, h);
    linear(block + "proj_out", h, 5 * h);
    for (const char* name : {"to_q", "to_k", "to_v"}) linear(block + "attn." + name, h, h);
    constexpr const char* kNorms[] = {"norm_q", "norm_k"};
    norms(c, block + "attn.", kNorms);
  }

  DType dtype_;
  std::vector<TensorPlan> plan_;
};

inline std::string config_json(const FluxConfig& c) {
  return fmt::format(
      R"({{"_class_name": "FluxTransformer2DModel", "patch_size": {}, "in_channels": {},
 "out_channels": {}, "num_layers": {}, "num_single_layers": {}, "attention_head_dim": {},
 "num_attention_heads": {}, "joint_attention_dim": {}, "pooled_projection_dim": {},
 "guidance_embeds": {}, "axes_dims_rope": [{}]}})",
      c.patch_size, c.in_channels, c.out_channels, c.num_layers, c.num_single_layers,
      c.attention_head_dim, c.num_attention_heads, c.joint_attention_dim, c.pooled_projection_dim,
      c.guidance_embeds, fmt::join(c.axes_dims_rope, ", "));
}

// In a folder of this process that disappears with it.
inline std::filesystem::path scratch_path(std::string_view name) {
  static const TempFolder folder;
  return folder.path() / name;
}

inline std::filesystem::path fresh_folder(const std::filesystem::path& folder) {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

inline void write_text(const std::filesystem::path& file, std::string_view text) {
  std::ofstream(file) << text;
}

constexpr const char* kWeightsName = "diffusion_pytorch_model.safetensors";

// A model folder with F32 weights from random_parameter.
inline std::filesystem::path write_random_flux(const std::filesystem::path& folder,
                                               const FluxConfig& config, uint64_t seed) {
  fresh_folder(folder);
  write_text(folder / "config.json", config_json(config));
  const FluxTensors tensors(config, DType::kF32);
  Writer writer(folder / kWeightsName, tensors.plan());
  for (const TensorPlan& plan : tensors.plan()) {
    writer.put(plan.name, random_parameter(plan, seed));
  }
  writer.finish();
  return folder;
}

// ||a - b|| / ||b||
inline double relative_l2(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = double{a[i]} - double{b[i]};
    difference += d * d;
    norm += double{b[i]} * double{b[i]};
  }
  return std::sqrt(difference / norm);
}

inline std::span<const float> values_of(const Tensor& tensor) {
  return {tensor.data<float>(), static_cast<size_t>(tensor.size())};
}

}  // namespace mezzotint::testing
