#include "solve/integer_scales.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "numerics/bf16.h"
#include "solve/weight_grid.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;
constexpr int kRatios = 11;
constexpr float kRatioStep = 0.05f;
constexpr int64_t kWidestProducts = 256;  // columns: 256 KiB of products per group

// How much errors of the columns [first, first + count) cost.
struct GroupCost {
  const float* gram = nullptr;  // of the whole input, or null
  int64_t k = 0;
  int64_t first = 0;
  int64_t count = 0;

  double operator()(std::span<const float> miss) const {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float own = miss[static_cast<size_t>(i)];
      if (gram == nullptr) {
        sum += double{own} * own;
        continue;
      }
      const float* row = gram + (first + i) * k + first;
      if (count > kWidestProducts) {
        sum += double{own} * own * row[i];
        continue;
      }
      float with = 0;
      for (int64_t j = 0; j < count; ++j) with += row[j] * miss[static_cast<size_t>(j)];
      sum += double{own} * with;
    }
    return sum;
  }
};

AffineParams params_of(std::span<const float> w, Element element, Symmetry symmetry, float ratio) {
  const auto [low, high] = std::ranges::minmax(w);
  const int bits = element == Element::kInt4 ? 4 : 8;
  if (symmetry == Symmetry::kSymmetric) {
    const float amax = ratio * std::max(-low, high);
    return {.scale = element == Element::kInt4 ? int4_weight_scale(amax) : int8_channel_scale(amax),
            .offset = 0};
  }
  AffineParams params = affine_params(ratio * low, ratio * high, bits, /*symmetric=*/false);
  params.scale = round_to_bf16(params.scale);
  const auto below_zero = static_cast<float>(1 << (bits - 1));
  params.offset =
      std::clamp(std::nearbyint(-ratio * std::min(low, 0.0f) / params.scale) - below_zero,
                 -below_zero, below_zero - 1.0f);
  return params;
}

float back(float w, Element element, Symmetry symmetry, const AffineParams& params) {
  if (symmetry == Symmetry::kAsymmetric) {
    return affine_value(affine_code(w, params, element == Element::kInt4 ? 4 : 8), params);
  }
  const int code =
      element == Element::kInt4 ? int4_code(w, params.scale) : int8_code(w, params.scale);
  return static_cast<float>(code) * params.scale;
}

AffineParams best_params(std::span<const float> w, Element element, Symmetry symmetry,
                         const GroupCost& cost) {
  AffineParams best{};
  double least = 0;
  std::vector<float> miss(w.size());
  for (int i = 0; i < kRatios; ++i) {
    const AffineParams tried =
        params_of(w, element, symmetry, 1.0f - kRatioStep * static_cast<float>(i));
    std::ranges::transform(w, miss.begin(),
                           [&](float v) { return v - back(v, element, symmetry, tried); });
    const double error = cost(miss);
    if (i > 0 && !(error < least)) continue;
    least = error;
    best = tried;
  }
  return best;
}

}  // namespace

IntegerScales search_integer_scales(const Tensor& w, Element element, const ScaleSharing& sharing,
                                    Symmetry symmetry, const Tensor* gram, const ExecContext& ctx) {
  MZ_CHECK(sharing.granularity == Granularity::kPerChannel);
  const int64_t n = w.dim(0), k = w.dim(1);
  const int64_t groups = std::max<int64_t>(sharing.groups, 1);
  MZ_CHECK(k % groups == 0);
  const int64_t width = k / groups;
  const Shape shape = sharing.groups == 0 ? Shape{n} : Shape{n, groups};
  IntegerScales out = {.scale = Tensor::allocate(DType::kF32, shape), .offset = {}};
  float* offset = nullptr;
  if (symmetry == Symmetry::kAsymmetric) {
    out.offset = Tensor::allocate(DType::kF32, shape);
    offset = out.offset.mutable_data<float>();
  }
  auto* scale = out.scale.mutable_data<float>();
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t i = begin; i < end; ++i) {
      widen_range(w, i * k, row);
      for (int64_t g = 0; g < groups; ++g) {
        const GroupCost cost = {.gram = gram == nullptr ? nullptr : gram->data<float>(),
                                .k = k,
                                .first = g * width,
                                .count = width};
        const std::span<const float> part = std::span<const float>(row).subspan(
            static_cast<size_t>(g * width), static_cast<size_t>(width));
        const AffineParams best = best_params(part, element, symmetry, cost);
        scale[i * groups + g] = best.scale;
        if (offset != nullptr) offset[i * groups + g] = best.offset;
      }
    }
  });
  return out;
}

Tensor integer_codes(const Tensor& w, Element element, int64_t groups, const IntegerScales& scales,
                     const ExecContext& ctx) {
  const int64_t n = w.dim(0), k = w.dim(1);
  const WeightView grid = {.element = element,
                           .n = n,
                           .k = k,
                           .group = groups == 0 ? 0 : k / groups,
                           .scale = scales.scale.data<float>(),
                           .offset = scales.offset.empty() ? nullptr : scales.offset.data<float>()};
  const int64_t row_bytes = code_row_bytes(element, k);
  Tensor codes =
      Tensor::allocate(element == Element::kInt8 ? DType::kI8 : DType::kU8, {n, row_bytes});
  std::byte* out = codes.buffer().mutable_data();
  std::memset(out, 0, static_cast<size_t>(codes.byte_size()));
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t i = begin; i < end; ++i) {
      widen_range(w, i * k, row);
      std::byte* to = out + i * row_bytes;
      for (int64_t c = 0; c < k; ++c) {
        const unsigned code = integer_point(grid, i, c, row[static_cast<size_t>(c)]).code;
        if (element == Element::kInt8) {
          to[c] = static_cast<std::byte>(code);
        } else {
          to[c / 2] |= static_cast<std::byte>(c % 2 == 0 ? code & 0xfu : (code & 0xfu) << 4);
        }
      }
    }
  });
  return codes;
}

}  // namespace mezzotint
