#include "solve/integer_scales.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"
#include "numerics/affine.h"
#include "numerics/bf16.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "solve/code_rows.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;
constexpr int kRatios = 11;  // and the full range of symmetric codes
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

// ratio 0: the full range, by codes of one magnitude on either side.
AffineParams symmetric_params(float low, float high, Element element, float ratio) {
  if (element == Element::kInt8) {
    return {.scale = int8_channel_scale((ratio > 0 ? ratio : 1) * std::max(-low, high)),
            .offset = 0};
  }
  // Down to -8: a sixteenth code.
  const float reach =
      ratio > 0 ? ratio * std::max(-low * (7.0f / 8.0f), high) : std::max(-low, high);
  return {.scale = int4_weight_scale(reach), .offset = 0};
}

AffineParams params_of(std::span<const float> w, Element element, Symmetry symmetry, float ratio) {
  const auto [low, high] = std::ranges::minmax(w);
  if (symmetry == Symmetry::kSymmetric) return symmetric_params(low, high, element, ratio);
  const int bits = element == Element::kInt4 ? 4 : 8;
  if (ratio == 0) ratio = 1;
  AffineParams params = affine_params(ratio * low, ratio * high, bits, /*symmetric=*/false);
  params.scale = round_to_bf16(params.scale);
  const auto below_zero = static_cast<float>(1 << (bits - 1));
  params.offset =
      std::clamp(std::nearbyint(-ratio * std::min(low, 0.0f) / params.scale) - below_zero,
                 -below_zero, below_zero - 1.0f);
  return params;
}

float back(float w, Element element, Symmetry symmetry, const AffineParams& params) {
  if (symmetry == Symmetry::kAsymmetric || element == Element::kInt4) {
    return affine_value(affine_code(w, params, element == Element::kInt4 ? 4 : 8), params);
  }
  return static_cast<float>(int8_code(w, params.scale)) * params.scale;
}

AffineParams best_params(std::span<const float> w, Element element, Symmetry symmetry,
                         const GroupCost& cost) {
  AffineParams best{};
  double least = 0;
  std::vector<float> miss(w.size());
  for (int i = 0; i <= kRatios; ++i) {
    const float ratio = i == 0 ? 0.0f : 1.0f - kRatioStep * static_cast<float>(i - 1);
    const AffineParams tried = params_of(w, element, symmetry, ratio);
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
  const int64_t row_bytes = code_row_bytes(element, k);
  const int64_t count = std::max<int64_t>(groups, 1);
  const int64_t width = k / count;
  const bool symmetric = scales.offset.empty();
  const float high = element == Element::kInt4 ? kInt4Max : kInt8Max;
  Tensor codes = Tensor::allocate(code_dtype(element), {n, row_bytes});
  std::byte* out = codes.buffer().mutable_data();
  const WeightOps& ops = weight_ops(active_isa());
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    std::vector<int8_t> row_codes(static_cast<size_t>(k));
    for (int64_t i = begin; i < end; ++i) {
      widen_range(w, i * k, row);
      for (int64_t g = 0; g < count; ++g) {
        const IntegerGrid grid = {
            .scale = scales.scale.data<float>()[i * count + g],
            .zero = symmetric ? 0.0f : scales.offset.data<float>()[i * count + g],
            .low = symmetric && element == Element::kInt8 ? -high : -high - 1.0f,
            .high = high};
        ops.integer_codes(row.data() + g * width, grid, row_codes.data() + g * width, width);
      }
      store_code_row(element, reinterpret_cast<const uint8_t*>(row_codes.data()), k,
                     out + i * row_bytes);
    }
  });
  return codes;
}

}  // namespace mezzotint
