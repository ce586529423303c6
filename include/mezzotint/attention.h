// Scaled dot-product attention as a named slot of a model.
//
//   Attention a("transformer_blocks.0.attn", {.heads = 24, .head_dim = 128});
//   a.run(q, k, v, out, {.scale = 1 / std::sqrt(128.f)}, ctx);
//
// A slot is float until quantize() (quantize.h) gives it a state: FP8_DYNAMIC then rotates q and k
// and works on e4m3 blocks of q, k and v (docs/numerics.md). Never allocates an S x S matrix. run()
// is const and may be called from several threads, but not while the state is set.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "mezzotint/context.h"
#include "mezzotint/export.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct AttentionState;  // algorithm and rotations (src/nn/attention_state.h)

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
  std::string_view algorithm() const noexcept;  // "FLOAT" or "FP8_DYNAMIC"
  int64_t resident_bytes() const noexcept;      // of the rotations; 0 when float
  const std::shared_ptr<const AttentionState>& state() const noexcept { return state_; }
  // Null makes the slot float. Throws Error naming the layer when head_dim differs or is not
  // served.
  void set_state(std::shared_ptr<const AttentionState> state);

  // Throws Error(kUsage) on a mismatch of shapes, dtypes or kv_length, naming the layer.
  void run(const HeadsView& q, const HeadsView& k, const HeadsView& v, const HeadsView& out,
           const AttentionCall& call, const ExecContext& ctx) const;

 private:
  std::string name_;
  AttentionShape shape_;
  std::shared_ptr<const AttentionState> state_;
};

}  // namespace mezzotint
