// _core.modulate_tokens() and its like: what blocks do between linears, on torch's memory.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <cstdint>
#include <tuple>

#include "bindings.h"
#include "mezzotint/context.h"
#include "models/token_ops.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// Address, dtype by modules.py's codes, [batch, tokens, width], strides of batch and tokens.
using TorchTokens = std::tuple<uintptr_t, int, int64_t, int64_t, int64_t, int64_t, int64_t>;
// Address of F32 [batch, width], stride of batch.
using TorchVectors = std::tuple<uintptr_t, int64_t>;

TokensView view(const TorchTokens& tokens) {
  constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
  const auto& [address, dtype, batch, count, width, batch_stride, token_stride] = tokens;
  return {.data = reinterpret_cast<void*>(address),
          .dtype = kDTypes[dtype],
          .batch = batch,
          .tokens = count,
          .width = width,
          .batch_stride = batch_stride,
          .token_stride = token_stride};
}

SampleVectors vectors(const TorchVectors& v) {
  return {.data = reinterpret_cast<const float*>(std::get<0>(v)), .stride = std::get<1>(v)};
}

void modulate(const TorchTokens& x, const TorchVectors& scale, const TorchVectors& shift, float eps,
              const TorchTokens& y, const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  modulate_tokens(view(x), vectors(scale), vectors(shift), eps, view(y), context);
}

void add_gated(const TorchTokens& x, const TorchVectors& gate, const TorchTokens& y,
               const TorchTokens& out, const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  add_gated_tokens(view(x), vectors(gate), view(y), view(out), context);
}

void gelu(const TorchTokens& x, const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  gelu_tokens(view(x), view(x), context);
}

void rotate_heads(const TorchTokens& x, uintptr_t weight, int64_t head_dim, float eps,
                  uintptr_t cos, uintptr_t sin, const TorchTokens& y, const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  rotate_head_tokens(view(x),
                     {.weight = reinterpret_cast<const float*>(weight),
                      .head_dim = head_dim,
                      .eps = eps,
                      .cos = reinterpret_cast<const float*>(cos),
                      .sin = reinterpret_cast<const float*>(sin)},
                     view(y), context);
}

}  // namespace

void bind_token_ops(nb::module_& module) {
  module.def("modulate_tokens", &modulate, "x"_a, "scale"_a, "shift"_a, "eps"_a, "y"_a,
             "context"_a);
  module.def("add_gated_tokens", &add_gated, "x"_a, "gate"_a, "y"_a, "out"_a, "context"_a);
  module.def("gelu_tokens", &gelu, "x"_a, "context"_a);
  module.def("rotate_head_tokens", &rotate_heads, "x"_a, "weight"_a, "head_dim"_a, "eps"_a, "cos"_a,
             "sin"_a, "y"_a, "context"_a);
}

}  // namespace mezzotint
