#include "solve/rtn.h"

#include <algorithm>
#include <mutex>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "numerics/int8.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;  // rows per task: 16 x 3072 elements are ~0.1 ms of work

float amax_of(std::span<const float> row) {
  float amax = 0;
  for (const float v : row) amax = std::max(amax, absolute(v));
  return amax;
}

bool is_all_finite(std::span<const float> row) {
  return std::ranges::all_of(row, [](float v) { return is_finite(v); });
}

}  // namespace

std::optional<int64_t> round_to_nearest_int8(const Tensor& w, const Int8Rows& out,
                                             const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  int64_t first_bad_row = n;
  std::mutex mutex;
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t i = begin; i < end; ++i) {
      widen_range(w, i * k, row);
      if (!is_all_finite(row)) {
        const std::lock_guard lock(mutex);
        first_bad_row = std::min(first_bad_row, i);
        return;
      }
      const float scale = int8_channel_scale(amax_of(row));
      out.scale[i] = scale;
      std::ranges::transform(row, out.codes + i * k,
                             [scale](float v) { return int8_code(v, scale); });
    }
  });
  if (first_bad_row == n) return std::nullopt;
  return first_bad_row;
}

}  // namespace mezzotint
