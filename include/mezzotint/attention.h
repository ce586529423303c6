// Scaled dot-product attention as a named slot of a model.
//
//   Attention a("transformer_blocks.0.attn", {.heads = 24, .head_dim = 128});
//   a.run(q, k, v, out, {.scale = 1 / std::sqrt(128.f)}, ctx);
//
// Never allocates an S x S matrix. run() is const and may be called from several threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "mezzotint/context.h"
#include "mezzotint/export.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// A strided view of [batch, seq, heads, dim]; dim has stride 1. Both BSHD and BHSD fit.
struct HeadsView {
  void* data = nullptr;
  DType dtype = DType::kF32;  // F32 or BF16
  int64_t batch = 0;
  int64_t seq = 0;
  int64_t heads = 0;
  int64_t dim = 0;
  int64_t batch_stride = 0;  // elements
  int64_t seq_stride = 0;
  int64_t head_stride = 0;
};

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // 0: same as heads; else a divisor of heads
  int64_t head_dim = 0;
};

struct AttentionCall {
  float scale = 1.0f;
  std::span<const int64_t> kv_length{};  // per batch: keys in use; empty: all
};

class MZ_API Attention {
 public:
  Attention() = default;
  Attention(std::string name, AttentionShape shape);

  const std::string& name() const noexcept { return name_; }
  const AttentionShape& shape() const noexcept { return shape_; }
  std::string_view algorithm() const noexcept { return "FLOAT"; }

  // Throws Error(kUsage) on a mismatch of shapes, dtypes or kv_length, naming the layer.
  void run(const HeadsView& q, const HeadsView& k, const HeadsView& v, const HeadsView& out,
           const AttentionCall& call, const ExecContext& ctx) const;

 private:
  std::string name_;
  AttentionShape shape_;
};

}  // namespace mezzotint
