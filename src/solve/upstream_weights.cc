#include "solve/upstream_weights.h"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"
#include "numerics/affine.h"
#include "numerics/dual_level.h"
#include "numerics/upstream.h"
#include "solve/code_rows.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

// Calls fn(row, values) for every row, on the threads of ctx.
template <typename Fn>
void for_each_row(const Tensor& w, const ExecContext& ctx, const Fn& fn) {
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(w.dim(1)));
    for (int64_t n = begin; n < end; ++n) {
      widen_range(w, n * w.dim(1), row);
      fn(n, std::span<const float>(row));
    }
  });
}

int bits_of(Element element) { return element == Element::kInt4 ? 4 : 8; }

AffineParams params_of(std::span<const float> w, const QuantScheme& scheme) {
  const auto [low, high] = std::ranges::minmax(w);
  return affine_params(low, high, bits_of(scheme.element), !scheme.asymmetric);
}

// Of all values, where one scale serves the tensor.
AffineParams tensor_params(const Tensor& w, const QuantScheme& scheme) {
  const Tensor wide = widened(w);
  return params_of({wide.data<float>(), static_cast<size_t>(wide.size())}, scheme);
}

// affine_code of numerics.
IntegerGrid grid_of(const AffineParams& params, Element element) {
  const auto below_zero = static_cast<float>(1 << (bits_of(element) - 1));
  return {
      .scale = params.scale, .zero = params.offset, .low = -below_zero, .high = below_zero - 1.0f};
}

// One row of 512 at a time through the MX rule, after the outer scale where there is one.
void encode_mx_row(std::span<const float> w, Element element, uint8_t* codes, uint8_t* block_scale,
                   float* dual) {
  std::array<float, kDualBlock> inner{};
  for (size_t first = 0; first < w.size(); first += kDualBlock) {
    const auto part = w.subspan(first, std::min<size_t>(kDualBlock, w.size() - first));
    float scale = 1.0f;
    if (dual != nullptr) {
      float amax = 0;
      for (const float v : part) amax = std::max(amax, absolute(v));
      scale = dual[first / kDualBlock] = dual_weight_scale(amax);
    }
    std::ranges::transform(part, inner.begin(), [&](float v) { return dual_inner(v, scale); });
    for (size_t i = 0; i < part.size(); i += kMxBlock) {
      const auto count = static_cast<int64_t>(std::min<size_t>(kMxBlock, part.size() - i));
      block_scale[(first + i) / kMxBlock] =
          upstream_mx_block(inner.data() + i, count, element, codes + first + i);
    }
  }
}

}  // namespace

UpstreamInteger upstream_integer_weight(const Tensor& w, const QuantScheme& scheme,
                                        const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  const int64_t group = scheme.group == 0 ? k : scheme.group;
  MZ_CHECK(k % group == 0);
  const int64_t groups = k / group;
  const int64_t row_bytes = code_row_bytes(scheme.element, k);
  const Shape shape = scheme.group == 0 ? Shape{n} : Shape{n, groups};
  UpstreamInteger out = {.codes = Tensor::allocate(code_dtype(scheme.element), {n, row_bytes}),
                         .scale = Tensor::allocate(DType::kF32, shape),
                         .offset = Tensor::allocate(DType::kF32, shape)};
  std::byte* codes = out.codes.buffer().mutable_data();
  float* scales = out.scale.mutable_data<float>();
  float* offsets = out.offset.mutable_data<float>();
  const bool one_scale = scheme.granularity == Granularity::kPerTensor;
  const AffineParams shared = one_scale ? tensor_params(w, scheme) : AffineParams{};
  const WeightOps& ops = weight_ops(active_isa());
  for_each_row(w, ctx, [&](int64_t row, std::span<const float> values) {
    std::vector<int8_t> row_codes(static_cast<size_t>(k));
    for (int64_t g = 0; g < groups; ++g) {
      const auto part = values.subspan(static_cast<size_t>(g * group), static_cast<size_t>(group));
      const AffineParams params = one_scale ? shared : params_of(part, scheme);
      scales[row * groups + g] = params.scale;
      offsets[row * groups + g] = params.offset;
      ops.integer_codes(part.data(), grid_of(params, scheme.element), row_codes.data() + g * group,
                        group);
    }
    store_code_row(scheme.element, reinterpret_cast<const uint8_t*>(row_codes.data()), k,
                   codes + row * row_bytes);
  });
  return out;
}

MxWeight upstream_mx_weight(const Tensor& w, Element element, MxLevels levels,
                            const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  const int64_t row_bytes = code_row_bytes(element, k);
  const bool dual = levels == MxLevels::kDual;
  MxWeight out;
  out.codes = Tensor::allocate(code_dtype(element), {n, row_bytes});
  out.block_scale = Tensor::allocate(DType::kU8, {n, mx_blocks(k)});
  if (dual) out.dual_scale = Tensor::allocate(DType::kF32, {n, dual_blocks(k)});
  std::byte* codes = out.codes.buffer().mutable_data();
  auto* block_scale = out.block_scale.mutable_data<uint8_t>();
  float* dual_scale = dual ? out.dual_scale.mutable_data<float>() : nullptr;
  for_each_row(w, ctx, [&](int64_t row, std::span<const float> values) {
    std::vector<uint8_t> row_codes(static_cast<size_t>(k));
    encode_mx_row(values, element, row_codes.data(), block_scale + row * mx_blocks(k),
                  dual ? dual_scale + row * dual_blocks(k) : nullptr);
    store_code_row(element, row_codes.data(), k, codes + row * row_bytes);
  });
  return out;
}

}  // namespace mezzotint
