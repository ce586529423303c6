#include "mezzotint/attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kernels/attention_op.h"
#include "mezzotint/error.h"
#include "nn/attention_state.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

[[noreturn]] void bad_call(const std::string& layer, std::string_view what, std::string expected,
                           std::string found) {
  throw Error(ErrorCode::kUsage, what,
              {.layer = layer, .expected = std::move(expected), .found = std::move(found)});
}

void check_size(const std::string& layer, std::string_view what, int64_t expected, int64_t found) {
  if (expected == found) return;
  bad_call(layer, fmt::format("wrong {}", what), std::to_string(expected), std::to_string(found));
}

struct NamedView {
  const char* name;
  const HeadsView& view;
  int64_t seq;
  int64_t heads;
};

void check_view(const std::string& layer, const NamedView& operand, const HeadsView& q,
                int64_t head_dim) {
  const HeadsView& view = operand.view;
  const auto size = [&](const char* what, int64_t expected, int64_t found) {
    check_size(layer, fmt::format("{} of {}", what, operand.name), expected, found);
  };
  size("batch", q.batch, view.batch);
  size("sequence length", operand.seq, view.seq);
  size("number of heads", operand.heads, view.heads);
  size("head_dim", head_dim, view.dim);
  if (view.dtype != DType::kF32 && view.dtype != DType::kBF16) {
    bad_call(layer, fmt::format("wrong dtype of {}", operand.name), "F32 or BF16",
             std::string(dtype_name(view.dtype)));
  }
  if (view.dtype != q.dtype) {
    bad_call(layer, fmt::format("wrong dtype of {}", operand.name),
             fmt::format("{} like q", dtype_name(q.dtype)), std::string(dtype_name(view.dtype)));
  }
  const bool is_empty = view.batch == 0 || view.seq == 0 || view.heads == 0;
  if (view.data == nullptr && !is_empty) {
    bad_call(layer, fmt::format("{} has no data", operand.name), "a pointer", "null");
  }
}

void check_kv_length(const std::string& layer, const AttentionCall& call, const HeadsView& q,
                     const HeadsView& k) {
  if (call.kv_length.empty()) return;
  check_size(layer, "number of kv_length entries", q.batch,
             static_cast<int64_t>(call.kv_length.size()));
  for (const int64_t length : call.kv_length) {
    if (length >= 0 && length <= k.seq) continue;
    bad_call(layer, "kv_length out of range", fmt::format("0..{}", k.seq), std::to_string(length));
  }
}

Rotation rotation_of(const Tensor& matrix, const std::optional<HadamardFactors>& factors) {
  return {.matrix = matrix.data<float>(),
          .before = factors ? factors->before.data() : nullptr,
          .after = factors ? factors->after.data() : nullptr};
}

AttentionSetup fp8_setup(const AttentionState& state) {
  return {.form = AttentionForm::kFp8,
          .q_rot = rotation_of(state.q_rot, state.q_factors),
          .k_rot = rotation_of(state.k_rot, state.k_factors),
          .p_scale = state.p_scale};
}

const float* float_row(const HeadsView& view, int64_t row, std::vector<float>& widened) {
  const int64_t head = row % view.heads, seq = row / view.heads % view.seq,
                batch = row / view.heads / view.seq;
  const int64_t at = batch * view.batch_stride + seq * view.seq_stride + head * view.head_stride;
  if (view.dtype == DType::kF32) return static_cast<const float*>(view.data) + at;
  const auto* bits = static_cast<const uint16_t*>(view.data) + at;
  widened.resize(static_cast<size_t>(view.dim));
  std::transform(bits, bits + view.dim, widened.begin(),
                 [](uint16_t word) { return bf16_to_float(word); });
  return widened.data();
}

// In one order for any number of threads.
Difference difference_of(const HeadsView& exact, const HeadsView& quantized) {
  Difference difference;
  std::vector<float> a, b;
  for (int64_t row = 0; row < exact.batch * exact.seq * exact.heads; ++row) {
    const float* x = float_row(exact, row, a);
    const float* y = float_row(quantized, row, b);
    for (int64_t d = 0; d < exact.dim; ++d) difference.add(x[d], y[d]);
  }
  return difference;
}

// A view of [batch,seq,heads,dim] like another one, of memory that lies close.
HeadsView close_view(const HeadsView& like, const Tensor& memory) {
  HeadsView view = like;
  view.data = memory.buffer().mutable_data();
  view.head_stride = like.dim;
  view.seq_stride = like.heads * like.dim;
  view.batch_stride = like.seq * view.seq_stride;
  return view;
}

}  // namespace

Attention::Attention(std::string name, AttentionShape shape)
    : name_(std::move(name)), shape_(shape) {
  if (shape_.kv_heads == 0) shape_.kv_heads = shape_.heads;
  if (shape_.heads > 0 && shape_.head_dim > 0 && shape_.kv_heads > 0 &&
      shape_.heads % shape_.kv_heads == 0) {
    return;
  }
  throw Error(ErrorCode::kUsage, "an attention cannot have this shape",
              {.layer = name_,
               .expected = "heads >= 1, head_dim >= 1, kv_heads a divisor of heads",
               .found = fmt::format("heads {}, kv_heads {}, head_dim {}", shape_.heads,
                                    shape_.kv_heads, shape_.head_dim)});
}

std::string_view Attention::algorithm() const noexcept {
  const bool is_float = state_ == nullptr || state_->compared;
  return is_float ? std::string_view("FLOAT") : std::string_view(state_->algorithm);
}

int64_t Attention::resident_bytes() const noexcept {
  return state_ == nullptr ? 0 : state_->q_rot.byte_size() + state_->k_rot.byte_size();
}

void Attention::set_state(std::shared_ptr<const AttentionState> state) {
  if (state != nullptr && state->q_rot.dim(0) != shape_.head_dim) {
    throw Error(ErrorCode::kInput, "the rotations have another head_dim than the layer",
                {.layer = name_,
                 .expected = to_string({shape_.head_dim, shape_.head_dim}),
                 .found = to_string(state->q_rot.shape())});
  }
  if (state != nullptr && shape_.head_dim > kFp8MaxHeadDim) {
    throw Error(ErrorCode::kUnsupported, "FP8 attention does not serve this head_dim",
                {.layer = name_,
                 .expected = fmt::format("1..{}: one scale per block of rows", kFp8MaxHeadDim),
                 .found = std::to_string(shape_.head_dim),
                 .fix = "keep the attention float"});
  }
  state_ = std::move(state);
}

void Attention::run(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                    const HeadsView& out, const AttentionCall& call, const ExecContext& ctx) const {
  if (shape_.heads == 0) {
    bad_call(name_, "the attention has no shape", "heads >= 1", "an empty attention");
  }
  if (q.batch < 0 || q.seq < 0 || k.seq < 0) {
    bad_call(name_, "negative size", "0 or more",
             fmt::format("batch {}, q.seq {}, k.seq {}", q.batch, q.seq, k.seq));
  }
  const int64_t d = shape_.head_dim;
  check_view(name_, {"q", q, q.seq, shape_.heads}, q, d);
  check_view(name_, {"k", k, k.seq, shape_.kv_heads}, q, d);
  check_view(name_, {"v", v, k.seq, shape_.kv_heads}, q, d);
  check_view(name_, {"out", out, q.seq, shape_.heads}, q, d);
  check_kv_length(name_, call, q, k);
  if (!std::isfinite(call.scale)) {
    bad_call(name_, "the attention scale is not finite", "a finite number",
             std::to_string(call.scale));
  }
  const FloatType type = q.dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
  const auto run_as = [&](const AttentionSetup& setup, Isa isa, const HeadsView& to) {
    run_attention(q, k, v, to, call, setup, choose_attention_kernel(setup.form, type, isa), ctx);
  };
  if (state_ == nullptr) return run_as({}, active_isa(), out);
  if (!state_->compared) return run_as(fp8_setup(*state_), state_->isa, out);
  run_as({}, active_isa(), out);
  const Tensor memory = Tensor::allocate(out.dtype, {out.batch, out.seq, out.heads, out.dim});
  const HeadsView quantized = close_view(out, memory);
  run_as(fp8_setup(*state_), state_->isa, quantized);
  state_->compared(difference_of(out, quantized), ctx.step());
}

}  // namespace mezzotint
