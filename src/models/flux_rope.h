// Rotary position tables and time embeddings of Flux, as in diffusers' embeddings.py
// (get_1d_rotary_pos_embed, get_timestep_embedding).
#pragma once

#include <cstdint>
#include <span>

#include "mezzotint/tensor.h"
#include "models/flux_config.h"

namespace mezzotint {

// cos and sin of every token and adjacent pair, text tokens first. Made once per grid and shared by
// all blocks and steps.
struct FluxRope {
  int64_t text_tokens = 0;
  int64_t image_tokens = 0;
  Tensor cos;  // F32 [text_tokens + image_tokens, head_dim / 2]
  Tensor sin;
};

// Text ids are zero; image ids are (0, row, col), row-major over rows x cols. Needs three axes.
FluxRope flux_rope(const FluxConfig& config, int64_t text_tokens, int64_t rows, int64_t cols);

// ids:[text_tokens + image_tokens, axes], row-major.
FluxRope flux_rope(const FluxConfig& config, int64_t text_tokens, std::span<const float> ids);

constexpr int64_t kTimeChannels = 256;

// out[256] = [cos(t f_i) | sin(t f_i)], f_i = 10000^(-i/128), in f32 as diffusers computes it.
// t is in units of 1/1000 of the trajectory: 500 is the middle.
void flux_time_projection(float t, float* out) noexcept;

}  // namespace mezzotint
