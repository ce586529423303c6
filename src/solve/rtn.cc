#include "solve/rtn.h"

#include <algorithm>
#include <mutex>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_ops.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "solve/code_rows.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;  // rows per task: 16 x 3072 elements are ~0.1 ms of work

float scale_of(Element element, float amax) {
  return element == Element::kInt4 ? int4_weight_scale(amax) : int8_channel_scale(amax);
}

// Calls fn(row, values) for every row, on the threads of ctx.
template <typename Fn>
void for_each_row(const Tensor& w, const ExecContext& ctx, const Fn& fn) {
  const auto k = static_cast<size_t>(w.dim(1));
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(k);
    for (int64_t n = begin; n < end; ++n) {
      widen_range(w, n * w.dim(1), row);
      fn(n, std::span<const float>(row));
    }
  });
}

// The largest magnitude; NaN where there is one.
float amax_of(std::span<const float> values) {
  return float_ops(active_isa()).amax(values.data(), static_cast<int64_t>(values.size()));
}

float tensor_amax(const Tensor& w, const ExecContext& ctx) {
  std::vector<float> maxima(static_cast<size_t>(w.dim(0)));
  for_each_row(w, ctx, [&](int64_t n, std::span<const float> row) {
    maxima[static_cast<size_t>(n)] = amax_of(row);
  });
  return amax_of(maxima);
}

}  // namespace

std::optional<int64_t> first_row_not_finite(const Tensor& w, const ExecContext& ctx) {
  std::mutex mutex;
  std::optional<int64_t> first;
  const int64_t k = w.dim(1);
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      if (is_finite(amax_of_range(w, n * k, k))) continue;
      const std::lock_guard lock(mutex);
      first = std::min(first.value_or(n), n);
    }
  });
  return first;
}

IntegerWeight round_to_nearest(const Tensor& w, Element element, const ScaleSharing& sharing,
                               const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  MZ_CHECK(element == Element::kInt8 || element == Element::kInt4);
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  const int64_t groups = std::max<int64_t>(sharing.groups, 1);
  MZ_CHECK(k % groups == 0);
  const int64_t row_bytes = code_row_bytes(element, k);
  IntegerWeight out = {
      .codes = Tensor::allocate(code_dtype(element), {n, row_bytes}),
      .scale = Tensor::allocate(DType::kF32, sharing.groups == 0 ? Shape{n} : Shape{n, groups})};
  std::byte* codes = out.codes.buffer().mutable_data();
  float* scales = out.scale.mutable_data<float>();
  const bool one_scale = sharing.granularity == Granularity::kPerTensor;
  const float largest = one_scale ? tensor_amax(w, ctx) : 0.0f;
  const int64_t group = k / groups;
  const float largest_code = element == Element::kInt4 ? kInt4Max : kInt8Max;
  const WeightOps& ops = weight_ops(active_isa());
  for_each_row(w, ctx, [&](int64_t row, std::span<const float> values) {
    std::vector<int8_t> row_codes(static_cast<size_t>(k));
    for (int64_t g = 0; g < groups; ++g) {
      const std::span<const float> part =
          values.subspan(static_cast<size_t>(g * group), static_cast<size_t>(group));
      const float scale = scale_of(element, one_scale ? largest : amax_of(part));
      scales[row * groups + g] = scale;
      ops.integer_codes(part.data(), {.scale = scale, .low = -largest_code, .high = largest_code},
                        row_codes.data() + g * group, group);
    }
    store_code_row(element, reinterpret_cast<const uint8_t*>(row_codes.data()), k,
                   codes + row * row_bytes);
  });
  return out;
}

}  // namespace mezzotint
