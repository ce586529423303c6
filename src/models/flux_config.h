// The configuration of a Flux transformer: the keys of diffusers' FluxTransformer2DModel.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace mezzotint {

class JsonFile;

struct FluxConfig {
  int64_t patch_size = 1;
  int64_t in_channels = 64;
  int64_t out_channels = 64;  // null in the file: same as in_channels
  int64_t num_layers = 19;
  int64_t num_single_layers = 38;
  int64_t attention_head_dim = 128;
  int64_t num_attention_heads = 24;
  int64_t joint_attention_dim = 4096;
  int64_t pooled_projection_dim = 768;
  bool guidance_embeds = false;
  std::vector<int64_t> axes_dims_rope{16, 56, 56};

  int64_t width() const { return attention_head_dim * num_attention_heads; }
  // Values per token of the output.
  int64_t velocity_channels() const { return patch_size * patch_size * out_channels; }

  bool operator==(const FluxConfig&) const = default;
};

// `path` is config.json or the folder that holds it. Only out_channels and axes_dims_rope may be
// absent (older FLUX.1 files lack both); an unknown key is an error.
FluxConfig read_flux_config(const std::filesystem::path& path);
FluxConfig flux_config_of(const JsonFile& json);

}  // namespace mezzotint
