#include "quant/activation_rounding.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "numerics/dual_level.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/mx.h"
#include "solve/static_range.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 8;

float amax_of(std::span<const float> x) {
  float amax = 0;
  for (const float v : x) amax = std::max(amax, absolute(v));
  return amax;
}

void round_integer_row(Element element, std::span<float> x) {
  const float amax = amax_of(x);
  if (element == Element::kInt4) {
    const float scale = int4_token_scale(amax);
    for (float& v : x) v = static_cast<float>(int4_code(v, scale)) * scale;
    return;
  }
  const float scale = int8_token_scale(amax);
  for (float& v : x) v = static_cast<float>(int8_code(v, scale)) * scale;
}

void round_mx(Element element, std::span<float> x, float dual) {
  std::array<uint8_t, kMxBlock> codes{};
  for (size_t first = 0; first < x.size(); first += kMxBlock) {
    const std::span<float> block = x.subspan(first, std::min<size_t>(kMxBlock, x.size() - first));
    for (float& v : block) v = dual == 1.0f ? v : dual_inner(v, dual);
    const uint8_t byte =
        mx_quantize_block(block.data(), static_cast<int64_t>(block.size()), element,
                          MxScaleRule::kFloor, Rounding::kHalfEven, codes.data());
    for (size_t i = 0; i < block.size(); ++i) block[i] = mx_value(codes[i], byte, element) * dual;
  }
}

void round_mx_row(const QuantScheme& scheme, std::span<float> x) {
  if (scheme.granularity != Granularity::kDualLevel) {
    round_mx(scheme.element, x, 1.0f);
    return;
  }
  for (size_t first = 0; first < x.size(); first += kDualBlock) {
    const std::span<float> part = x.subspan(first, std::min<size_t>(kDualBlock, x.size() - first));
    round_mx(scheme.element, part, dual_scale(amax_of(part)));
  }
}

void round_static(std::span<float> x, const AffineParams& params) {
  for (float& v : x) {
    v = affine_value(int8_static_code(v, params.scale, params.offset), params);
  }
}

}  // namespace

void round_activations(const FileContract& contract, const Tensor& x, const ExecContext& ctx) {
  if (contract.mode == ActivationMode::kFloat || x.empty()) return;
  const int64_t k = x.dim(1);
  auto* values = x.mutable_data<float>();
  const auto [low, high] = std::minmax_element(values, values + x.size());
  const AffineParams fixed = static_range({.min = *low, .max = *high}, RangeRule::kMinMax);
  const Element element = contract.activation.element;
  const bool integer = element == Element::kInt8 || element == Element::kInt4;
  parallel_for(ctx, x.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::span<float> part(values + row * k, static_cast<size_t>(k));
      if (contract.mode == ActivationMode::kStatic) {
        round_static(part, fixed);
      } else if (integer) {
        round_integer_row(element, part);
      } else {
        round_mx_row(contract.activation, part);
      }
    }
  });
}

}  // namespace mezzotint
