// The blocks of a Flux transformer: named slots and their forward pass.
//
// Activations are token-major: row = token * batch + sample, text tokens before image tokens. So
// the text and the image part of every buffer are contiguous matrices for any batch, and joint
// attention needs no concatenation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mezzotint/attention.h"
#include "mezzotint/context.h"
#include "mezzotint/linear.h"
#include "mezzotint/quantize.h"
#include "mezzotint/tensor.h"
#include "models/flux_config.h"
#include "models/flux_rope.h"
#include "models/flux_rows.h"

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
  float* modulation = nullptr;  // [2, batch, 6 width]
  // What linears and attention read and write, of this dtype; the state stays F32.
  DType dtype = DType::kF32;
  void* normed = nullptr;  // [rows, width]
  void* q = nullptr;       // [rows, width]; after attention: output of the projections
  void* k = nullptr;       // [rows, width]
  void* v = nullptr;       // [rows, width]
  void* wide = nullptr;    // [rows, 5 width]

  int64_t text_rows() const { return text_tokens * batch; }
  int64_t image_rows() const { return image_tokens * batch; }
  int64_t rows() const { return text_rows() + image_rows(); }

  // Rows [first, first + count) of one of the buffers.
  Rows part(void* buffer, int64_t first, int64_t count) const {
    return {static_cast<std::byte*>(buffer) + first * width * dtype_size(dtype), dtype, count,
            width, width};
  }
  Rows state(int64_t first, int64_t count) const {
    return {hidden + first * width, DType::kF32, count, width, width};
  }
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
  // x, y:[rows, width]; inner:[rows, 4 width] of the same dtype is scratch.
  void forward(const Rows& x, void* inner, const Rows& y, const ExecContext& ctx) const;
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
