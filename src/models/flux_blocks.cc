#include "models/flux_blocks.h"

#include <array>
#include <cmath>

#include "models/flux_loader.h"

namespace mezzotint {
namespace {

// Chunks of the rows of an adaLN linear.
constexpr int64_t kShiftMsa = 0, kScaleMsa = 1, kGateMsa = 2;
constexpr int64_t kShiftMlp = 3, kScaleMlp = 4, kGateMlp = 5, kDoubleChunks = 6;
constexpr int64_t kShift = 0, kScale = 1, kGate = 2, kSingleChunks = 3;

Matrix matrix(float* data, int64_t rows, int64_t cols) {
  return {data, DType::kF32, rows, cols, cols};
}

ConstMatrix const_matrix(const float* data, int64_t rows, int64_t cols) {
  return {data, DType::kF32, rows, cols, cols};
}

// The output of one adaLN linear: `chunks` vectors of [width] per sample.
struct Modulation {
  const float* data;
  int64_t batch;
  int64_t width;
  int64_t chunks;

  PerSample chunk(int64_t i) const { return {data + i * width, batch, chunks * width}; }
};

Modulation run_modulation(const Linear& linear, const FluxActivations& a, int64_t chunks,
                          float* out, const ExecContext& ctx) {
  linear.run(const_matrix(a.silu_temb, a.batch, a.width), matrix(out, a.batch, chunks * a.width),
             ctx);
  return {out, a.batch, a.width, chunks};
}

// The whole joint sequence as attention sees it; rows may be wider than the heads.
HeadsView heads_view(void* data, const FluxActivations& a, const AttentionShape& shape,
                     int64_t row_stride) {
  return {.data = data,
          .dtype = a.dtype,
          .batch = a.batch,
          .seq = a.text_tokens + a.image_tokens,
          .heads = shape.heads,
          .dim = shape.head_dim,
          .batch_stride = row_stride,
          .seq_stride = row_stride * a.batch,
          .head_stride = shape.head_dim};
}

// Normalizes and rotates rows [first, first + count) of q or k.
void prepare_heads(void* data, const Tensor& weight, int64_t first, int64_t count,
                   const FluxActivations& a, const ExecContext& ctx) {
  const int64_t offset = first / a.batch * a.rope->cos.dim(1);
  normalize_and_rotate_heads(a.part(data, first, count),
                             {.weight = weight.data<float>(),
                              .head_dim = weight.dim(0),
                              .cos = a.rope->cos.data<float>() + offset,
                              .sin = a.rope->sin.data<float>() + offset,
                              .batch = a.batch},
                             ctx);
}

void run_attention(const Attention& attention, const FluxActivations& a, void* out,
                   int64_t out_stride, const ExecContext& ctx) {
  const AttentionShape& shape = attention.shape();
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  attention.run(heads_view(a.q, a, shape, a.width), heads_view(a.k, a, shape, a.width),
                heads_view(a.v, a, shape, a.width), heads_view(out, a, shape, out_stride),
                {.scale = scale}, ctx);
}

Attention attention_slot(FluxLoader& loader, const FluxConfig& config, const std::string& block) {
  return loader.attention(block + ".attn", {.heads = config.num_attention_heads,
                                            .kv_heads = config.num_attention_heads,
                                            .head_dim = config.attention_head_dim});
}

}  // namespace

FluxEmbedder::FluxEmbedder(FluxLoader& loader, const std::string& name, int64_t in_features,
                           int64_t width)
    : linear_1(loader.linear(name + ".linear_1", width, in_features)),
      linear_2(loader.linear(name + ".linear_2", width, width)) {}

void FluxEmbedder::forward(const float* x, float* y, int64_t batch, const ExecContext& ctx) const {
  const int64_t width = linear_2.in_features();
  const Tensor inner = Tensor::allocate(DType::kF32, {batch, width});
  auto* values = inner.mutable_data<float>();
  linear_1.run(const_matrix(x, batch, linear_1.in_features()), matrix(values, batch, width), ctx);
  silu_values(values, values, batch * width, ctx);
  linear_2.run(const_matrix(values, batch, width), matrix(y, batch, width), ctx);
}

void FluxEmbedder::add_modules(ModuleMap& map) {
  map.linears.insert(map.linears.end(), {&linear_1, &linear_2});
}

FluxFeedForward::FluxFeedForward(FluxLoader& loader, const std::string& name, int64_t width)
    : up(loader.linear(name + ".net.0.proj", 4 * width, width)),
      down(loader.linear(name + ".net.2", width, 4 * width)) {}

void FluxFeedForward::forward(const Rows& x, void* inner, const Rows& y,
                              const ExecContext& ctx) const {
  const Rows hidden = {inner, x.dtype, x.rows, up.out_features(), up.out_features()};
  up.run(x.const_matrix(), hidden.matrix(), ctx);
  gelu_rows(hidden, ctx);
  down.run(hidden.const_matrix(), y.matrix(), ctx);
}

void FluxFeedForward::add_modules(ModuleMap& map) {
  map.linears.insert(map.linears.end(), {&up, &down});
}

FluxDoubleBlock::FluxDoubleBlock(FluxLoader& loader, const FluxConfig& config,
                                 const std::string& name)
    : norm1(loader.linear(name + ".norm1.linear", kDoubleChunks * config.width(), config.width())),
      norm1_context(loader.linear(name + ".norm1_context.linear", kDoubleChunks * config.width(),
                                  config.width())),
      ff(loader, name + ".ff", config.width()),
      ff_context(loader, name + ".ff_context", config.width()),
      attention(attention_slot(loader, config, name)) {
  const int64_t width = config.width();
  const std::string attn = name + ".attn.";
  to_q = loader.linear(attn + "to_q", width, width);
  to_k = loader.linear(attn + "to_k", width, width);
  to_v = loader.linear(attn + "to_v", width, width);
  to_out = loader.linear(attn + "to_out.0", width, width);
  add_q_proj = loader.linear(attn + "add_q_proj", width, width);
  add_k_proj = loader.linear(attn + "add_k_proj", width, width);
  add_v_proj = loader.linear(attn + "add_v_proj", width, width);
  to_add_out = loader.linear(attn + "to_add_out", width, width);
  norm_q = loader.vector(attn + "norm_q.weight", config.attention_head_dim);
  norm_k = loader.vector(attn + "norm_k.weight", config.attention_head_dim);
  norm_added_q = loader.vector(attn + "norm_added_q.weight", config.attention_head_dim);
  norm_added_k = loader.vector(attn + "norm_added_k.weight", config.attention_head_dim);
  // Named as Python names them in statistics: after the linear that diffusers calls first.
  image_qkv = {.name = to_q.name(), .members = {&to_q, &to_k, &to_v}};
  text_qkv = {.name = add_q_proj.name(), .members = {&add_q_proj, &add_k_proj, &add_v_proj}};
}

void FluxDoubleBlock::attend(const FluxActivations& a, const ExecContext& ctx) const {
  const int64_t text = a.text_rows();
  const int64_t image = a.image_rows();
  const auto run_part = [&](const LinearGroup& group, int64_t first, int64_t count) {
    const std::array<Matrix, 3> outputs{a.part(a.q, first, count).matrix(),
                                        a.part(a.k, first, count).matrix(),
                                        a.part(a.v, first, count).matrix()};
    run_group(group, a.part(a.normed, first, count).const_matrix(), outputs, ctx);
  };
  run_part(text_qkv, 0, text);
  run_part(image_qkv, text, image);
  prepare_heads(a.q, norm_added_q, 0, text, a, ctx);
  prepare_heads(a.q, norm_q, text, image, a, ctx);
  prepare_heads(a.k, norm_added_k, 0, text, a, ctx);
  prepare_heads(a.k, norm_k, text, image, a, ctx);
  run_attention(attention, a, a.wide, a.width, ctx);
  to_add_out.run(a.part(a.wide, 0, text).const_matrix(), a.part(a.q, 0, text).matrix(), ctx);
  to_out.run(a.part(a.wide, text, image).const_matrix(), a.part(a.q, text, image).matrix(), ctx);
}

void FluxDoubleBlock::forward(const FluxActivations& a, const ExecContext& ctx) const {
  struct Stream {
    Modulation modulation;
    const FluxFeedForward* ff;
    Rows hidden, normed, projected;
  };
  const auto stream = [&](const Linear& norm, const FluxFeedForward& feed_forward, int64_t first,
                          int64_t count, float* modulation) -> Stream {
    return {run_modulation(norm, a, kDoubleChunks, modulation, ctx), &feed_forward,
            a.state(first, count), a.part(a.normed, first, count), a.part(a.q, first, count)};
  };
  float* image_modulation = a.modulation + kDoubleChunks * a.batch * a.width;
  const Stream streams[] = {
      stream(norm1_context, ff_context, 0, a.text_rows(), a.modulation),
      stream(norm1, ff, a.text_rows(), a.image_rows(), image_modulation),
  };
  for (const Stream& s : streams) {
    modulate_rows(s.hidden, s.modulation.chunk(kScaleMsa), s.modulation.chunk(kShiftMsa), s.normed,
                  ctx);
  }
  attend(a, ctx);
  for (const Stream& s : streams) {
    add_gated_rows(s.projected, s.modulation.chunk(kGateMsa), s.hidden, ctx);
    modulate_rows(s.hidden, s.modulation.chunk(kScaleMlp), s.modulation.chunk(kShiftMlp), s.normed,
                  ctx);
    s.ff->forward(s.normed, a.wide, s.projected, ctx);
    add_gated_rows(s.projected, s.modulation.chunk(kGateMlp), s.hidden, ctx);
  }
}

void FluxDoubleBlock::add_modules(ModuleMap& map) {
  map.linears.insert(map.linears.end(), {&norm1, &norm1_context, &to_q, &to_k, &to_v, &add_q_proj,
                                         &add_k_proj, &add_v_proj, &to_out, &to_add_out});
  ff.add_modules(map);
  ff_context.add_modules(map);
  map.groups.insert(map.groups.end(), {&image_qkv, &text_qkv});
  map.attentions.push_back(&attention);
}

FluxSingleBlock::FluxSingleBlock(FluxLoader& loader, const FluxConfig& config,
                                 const std::string& name)
    : norm(loader.linear(name + ".norm.linear", kSingleChunks * config.width(), config.width())),
      attention(attention_slot(loader, config, name)) {
  const int64_t width = config.width();
  const std::string attn = name + ".attn.";
  to_q = loader.linear(attn + "to_q", width, width);
  to_k = loader.linear(attn + "to_k", width, width);
  to_v = loader.linear(attn + "to_v", width, width);
  norm_q = loader.vector(attn + "norm_q.weight", config.attention_head_dim);
  norm_k = loader.vector(attn + "norm_k.weight", config.attention_head_dim);
  proj_mlp = loader.linear(name + ".proj_mlp", 4 * width, width);
  proj_out = loader.linear(name + ".proj_out", width, 5 * width);
  qkv_mlp = {.name = proj_mlp.name(), .members = {&to_q, &to_k, &to_v, &proj_mlp}};
}

void FluxSingleBlock::forward(const FluxActivations& a, const ExecContext& ctx) const {
  const int64_t rows = a.rows();
  const Modulation modulation = run_modulation(norm, a, kSingleChunks, a.modulation, ctx);
  const Rows hidden = a.state(0, rows), normed = a.part(a.normed, 0, rows);
  modulate_rows(hidden, modulation.chunk(kScale), modulation.chunk(kShift), normed, ctx);
  // proj_out reads [attention | gelu(mlp)]: both are written in place, side by side.
  const int64_t wide_stride = 5 * a.width;
  const Rows wide{a.wide, a.dtype, rows, wide_stride, wide_stride};
  const Rows mlp{a.part(a.wide, 1, 0).data, a.dtype, rows, 4 * a.width, wide_stride};
  const Rows projected = a.part(a.q, 0, rows);
  const std::array<Matrix, 4> outputs{projected.matrix(), a.part(a.k, 0, rows).matrix(),
                                      a.part(a.v, 0, rows).matrix(), mlp.matrix()};
  run_group(qkv_mlp, normed.const_matrix(), outputs, ctx);
  gelu_rows(mlp, ctx);
  prepare_heads(a.q, norm_q, 0, rows, a, ctx);
  prepare_heads(a.k, norm_k, 0, rows, a, ctx);
  run_attention(attention, a, a.wide, wide_stride, ctx);
  proj_out.run(wide.const_matrix(), projected.matrix(), ctx);
  add_gated_rows(projected, modulation.chunk(kGate), hidden, ctx);
}

void FluxSingleBlock::add_modules(ModuleMap& map) {
  map.linears.insert(map.linears.end(), {&norm, &to_q, &to_k, &to_v, &proj_mlp, &proj_out});
  map.groups.push_back(&qkv_mlp);
  map.attentions.push_back(&attention);
}

}  // namespace mezzotint
