#include "nn/attention_state.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

Tensor widened_rotation(const char* name, const Tensor& rotation, int64_t dim) {
  if (!is_floating(rotation.dtype()) || rotation.shape() != Shape{dim, dim}) {
    throw Error(
        ErrorCode::kUsage, fmt::format("{} is not a rotation", name),
        {.expected = fmt::format("a float tensor of shape {}", to_string({dim, dim})),
         .found = fmt::format("{} {}", dtype_name(rotation.dtype()), to_string(rotation.shape()))});
  }
  return widened(rotation);
}

std::optional<HadamardFactors> factors_of(const Tensor& rotation) {
  const int64_t n = rotation.dim(0);
  return hadamard_factors({rotation.data<float>(), static_cast<size_t>(n * n)}, n);
}

}  // namespace

std::shared_ptr<const AttentionState> make_fp8_attention_state(const Tensor& q_rot,
                                                               const Tensor& k_rot, float p_scale,
                                                               Isa isa) {
  if (!std::isfinite(p_scale) || p_scale <= 0.0f) {
    throw Error(ErrorCode::kUsage, "the scale of the softmax numerators cannot be this",
                {.expected = "a positive number", .found = fmt::format("{}", p_scale)});
  }
  const int64_t dim = q_rot.shape().empty() ? 0 : q_rot.dim(0);
  AttentionState state = {.algorithm = "FP8_DYNAMIC",
                          .q_rot = widened_rotation("q_rot", q_rot, dim),
                          .k_rot = widened_rotation("k_rot", k_rot, dim),
                          .q_factors = {},
                          .k_factors = {},
                          .p_scale = p_scale,
                          .isa = isa,
                          .compared = {}};
  state.q_factors = factors_of(state.q_rot);
  state.k_factors = factors_of(state.k_rot);
  return std::make_shared<const AttentionState>(std::move(state));
}

}  // namespace mezzotint
