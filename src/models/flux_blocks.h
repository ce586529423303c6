// The blocks of a Flux transformer: named slots and their forward pass in f32.
//
// Activations are token-major: row = token * batch + sample, text tokens before image tokens. So
// the text and the image part of every buffer are contiguous matrices for any batch, and joint
// attention needs no concatenation.
#pragma once

#include <cstdint>
#include <string>

#include "mezzotint/attention.h"
#include "mezzotint/context.h"
#include "mezzotint/linear.h"
#include "mezzotint/quantize.h"
#include "mezzotint/tensor.h"
#include "models/flux_config.h"
#include "models/flux_rope.h"

namespace mezzotint {

class FluxLoader;

// What the blocks of one forward pass share. Pointers are borrowed from one Scratch.
struct FluxActivations {
  int64_t batch = 0;
  int64_t text_tokens = 0;
  int64_t image_tokens = 0;
  int64_t width = 0;
  const FluxRope* rope = nullptr;
  float* silu_temb = nullptr;   // [batch, width]
  float* hidden = nullptr;      // [rows, width], the state of the model
  float* normed = nullptr;      // [rows, width]
  float* q = nullptr;           // [rows, width]; after attention: output of the projections
  float* k = nullptr;           // [rows, width]
  float* v = nullptr;           // [rows, width]
  float* wide = nullptr;        // [rows, 5 width]
  float* modulation = nullptr;  // [2, batch, 6 width]

  int64_t text_rows() const { return text_tokens * batch; }
  int64_t image_rows() const { return image_tokens * batch; }
  int64_t rows() const { return text_rows() + image_rows(); }
};

// linear_2(silu(linear_1(x))).
struct FluxEmbedder {
  FluxEmbedder() = default;
  FluxEmbedder(FluxLoader& loader, const std::string& name, int64_t in_features, int64_t width);
  // x:[batch, in_features], y:[batch, width]
  void forward(const float* x, float* y, int64_t batch, const ExecContext& ctx) const;
  void add_modules(ModuleMap& map);

  Linear linear_1, linear_2;
};

struct FluxFeedForward {
  FluxFeedForward(FluxLoader& loader, const std::string& name, int64_t width);
  // x, y:[rows, width]; inner:[rows, 4 width] is scratch.
  void forward(const float* x, float* inner, float* y, int64_t rows, const ExecContext& ctx) const;
  void add_modules(ModuleMap& map);

  Linear up;    // net.0.proj
  Linear down;  // net.2
};

struct FluxDoubleBlock {
  FluxDoubleBlock(FluxLoader& loader, const FluxConfig& config, const std::string& name);
  FluxDoubleBlock(const FluxDoubleBlock&) = delete;  // groups point into the block
  FluxDoubleBlock& operator=(const FluxDoubleBlock&) = delete;
  void forward(const FluxActivations& a, const ExecContext& ctx) const;
  void add_modules(ModuleMap& map);

  Linear norm1, norm1_context;  // .linear: 6 chunks
  Linear to_q, to_k, to_v, to_out;
  Linear add_q_proj, add_k_proj, add_v_proj, to_add_out;
  Tensor norm_q, norm_k, norm_added_q, norm_added_k;  // F32 [head_dim]
  FluxFeedForward ff, ff_context;
  Attention attention;
  LinearGroup image_qkv, text_qkv;

 private:
  void attend(const FluxActivations& a, const ExecContext& ctx) const;
};

struct FluxSingleBlock {
  FluxSingleBlock(FluxLoader& loader, const FluxConfig& config, const std::string& name);
  FluxSingleBlock(const FluxSingleBlock&) = delete;
  FluxSingleBlock& operator=(const FluxSingleBlock&) = delete;
  void forward(const FluxActivations& a, const ExecContext& ctx) const;
  void add_modules(ModuleMap& map);

  Linear norm;  // .linear: 3 chunks
  Linear to_q, to_k, to_v, proj_mlp, proj_out;
  Tensor norm_q, norm_k;
  Attention attention;
  LinearGroup qkv_mlp;
};

}  // namespace mezzotint
