#include "models/flux_rope.h"

#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr double kTheta = 10000.0;

// theta^(-2j/dim) for every axis, concatenated; the axis of each pair beside it.
struct PairFrequency {
  size_t axis;
  double frequency;
};

std::vector<PairFrequency> pair_frequencies(const FluxConfig& config) {
  std::vector<PairFrequency> pairs;
  for (size_t axis = 0; axis < config.axes_dims_rope.size(); ++axis) {
    const auto dim = static_cast<double>(config.axes_dims_rope[axis]);
    for (int64_t j = 0; 2 * j < config.axes_dims_rope[axis]; ++j) {
      pairs.push_back({axis, 1.0 / std::pow(kTheta, static_cast<double>(2 * j) / dim)});
    }
  }
  return pairs;
}

}  // namespace

FluxRope flux_rope(const FluxConfig& config, int64_t text_tokens, std::span<const float> ids) {
  const size_t axes = config.axes_dims_rope.size();
  const auto tokens = static_cast<int64_t>(ids.size() / axes);
  if (ids.size() % axes != 0 || tokens < text_tokens) {
    throw Error(ErrorCode::kUsage, "position ids have the wrong size",
                {.expected = fmt::format("[at least {},{}]", text_tokens, axes),
                 .found = fmt::format("{} values", ids.size())});
  }
  const std::vector<PairFrequency> pairs = pair_frequencies(config);
  const auto half = static_cast<int64_t>(pairs.size());
  FluxRope rope{.text_tokens = text_tokens,
                .image_tokens = tokens - text_tokens,
                .cos = Tensor::allocate(DType::kF32, {tokens, half}),
                .sin = Tensor::allocate(DType::kF32, {tokens, half})};
  auto* cos = rope.cos.mutable_data<float>();
  auto* sin = rope.sin.mutable_data<float>();
  for (int64_t token = 0; token < tokens; ++token) {
    const float* id = ids.data() + static_cast<size_t>(token) * axes;
    for (const PairFrequency& pair : pairs) {
      const double angle = static_cast<double>(id[pair.axis]) * pair.frequency;
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
  }
  return rope;
}

FluxRope flux_rope(const FluxConfig& config, int64_t text_tokens, int64_t rows, int64_t cols) {
  constexpr size_t kAxes = 3;
  if (config.axes_dims_rope.size() != kAxes) {
    throw Error(ErrorCode::kUsage, "a grid gives three coordinates per token",
                {.expected = "3 axes in axes_dims_rope",
                 .found = fmt::format("{}", config.axes_dims_rope.size()),
                 .fix = "pass explicit position ids"});
  }
  const int64_t tokens = text_tokens + rows * cols;
  std::vector<float> ids(static_cast<size_t>(tokens) * kAxes, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      float* id = ids.data() + static_cast<size_t>(text_tokens + row * cols + col) * kAxes;
      id[1] = static_cast<float>(row);
      id[2] = static_cast<float>(col);
    }
  }
  return flux_rope(config, text_tokens, ids);
}

void flux_time_projection(float t, float* out) noexcept {
  constexpr int64_t kHalf = kTimeChannels / 2;
  const auto minus_log_period = static_cast<float>(-std::log(10000.0));
  for (int64_t i = 0; i < kHalf; ++i) {
    const float exponent = minus_log_period * static_cast<float>(i) / static_cast<float>(kHalf);
    const float angle = t * std::exp(exponent);
    out[i] = std::cos(angle);
    out[kHalf + i] = std::sin(angle);
  }
}

}  // namespace mezzotint
