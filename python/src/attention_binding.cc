// Attention on torch's memory: _core.Fp8Attention, and _core.attention() in float.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/cpu_features.h"
#include "bindings.h"
#include "mezzotint/attention.h"
#include "mezzotint/context.h"
#include "nn/attention_state.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// Address, is BF16 (else F32), sizes and strides in elements, of [batch, heads, seq, dim].
using TorchHeads = std::tuple<uintptr_t, bool, std::array<int64_t, 4>, std::array<int64_t, 4>>;

HeadsView heads_view(const TorchHeads& heads) {
  const auto& [address, is_bf16, size, stride] = heads;
  return {.data = reinterpret_cast<void*>(address),
          .dtype = is_bf16 ? DType::kBF16 : DType::kF32,
          .batch = size[0],
          .seq = size[2],
          .heads = size[1],
          .dim = size[3],
          .batch_stride = stride[0],
          .seq_stride = stride[2],
          .head_stride = stride[1]};
}

// Holds f32 copies of the rotations.
class Fp8Attention {
 public:
  Fp8Attention(std::string name, const TorchTensor& q_rot, const TorchTensor& k_rot)
      : name_(std::move(name)),
        state_(make_fp8_attention_state(copied(borrowed(q_rot)), copied(borrowed(k_rot)), 1.0f,
                                        active_isa())) {
    shaped(1, 1);  // throws when head_dim is not served
  }

  void run(const TorchHeads& q, const TorchHeads& k, const TorchHeads& v, const TorchHeads& out,
           float scale, const std::vector<int64_t>& kv_length, const ExecContext& context) const {
    const nb::gil_scoped_release no_gil;
    const HeadsView query = heads_view(q);
    const HeadsView key = heads_view(k);
    shaped(query.heads, key.heads)
        .run(query, key, heads_view(v), heads_view(out), {.scale = scale, .kv_length = kv_length},
             context);
  }

 private:
  Attention shaped(int64_t heads, int64_t kv_heads) const {
    Attention attention(name_,
                        {.heads = heads, .kv_heads = kv_heads, .head_dim = state_->q_rot.dim(0)});
    attention.set_state(state_);
    return attention;
  }

  static Tensor copied(const Tensor& tensor) {
    Tensor copy = Tensor::allocate(tensor.dtype(), tensor.shape());
    std::memcpy(copy.buffer().mutable_data(), tensor.raw(),
                static_cast<size_t>(tensor.byte_size()));
    return copy;
  }

  std::string name_;
  std::shared_ptr<const AttentionState> state_;
};

// Float attention, for q, k and v that a block has in hand.
void run_float_attention(const TorchHeads& q, const TorchHeads& k, const TorchHeads& v,
                         const TorchHeads& out, float scale, const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  const HeadsView query = heads_view(q);
  const HeadsView key = heads_view(k);
  Attention("attention", {.heads = query.heads, .kv_heads = key.heads, .head_dim = query.dim})
      .run(query, key, heads_view(v), heads_view(out), {.scale = scale}, context);
}

}  // namespace

void bind_attention(nb::module_& module) {
  nb::class_<Fp8Attention>(module, "Fp8Attention", "Rotates, quantizes and attends.")
      .def(nb::init<std::string, const TorchTensor&, const TorchTensor&>(), "name"_a, "q_rot"_a,
           "k_rot"_a)
      .def("run", &Fp8Attention::run, "q"_a, "k"_a, "v"_a, "out"_a, "scale"_a, "kv_length"_a,
           "context"_a);
  module.def("attention", &run_float_attention, "q"_a, "k"_a, "v"_a, "out"_a, "scale"_a,
             "context"_a);
}

}  // namespace mezzotint
