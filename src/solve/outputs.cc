#include "solve/outputs.h"

#include <cblas.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/parallel_for.h"

namespace mezzotint {
namespace {

constexpr int64_t kColumns = 256;  // of the output, per task

int ld(int64_t v) { return static_cast<int>(v); }

}  // namespace

Tensor outputs(const Tensor& x, const Tensor& w, const ExecContext& ctx) {
  const int64_t m = x.dim(0), n = w.dim(0), k = w.dim(1);
  MZ_CHECK(x.dim(1) == k);
  Tensor y = Tensor::allocate(DType::kF32, {m, n});
  auto* out = y.mutable_data<float>();
  parallel_for(ctx, (n + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kColumns;
      const int64_t count = std::min(kColumns, n - first);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ld(m), ld(count), ld(k), 1.0f,
                  x.data<float>(), ld(k), w.data<float>() + first * k, ld(k), 0.0f, out + first,
                  ld(n));
    }
  });
  return y;
}

double squared_distance(const Tensor& a, const Tensor& b) {
  const auto floats = [](const Tensor& t) {
    return std::span(t.data<float>(), static_cast<size_t>(t.size()));
  };
  return squared_distance(floats(a), floats(b));
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  MZ_CHECK(a.size() == b.size());
  constexpr size_t kLanes = 4;  // partial sums, so that additions need not wait for each other
  std::array<double, kLanes> sums{};
  const auto add = [&](size_t i, size_t lane) {
    const double d = double{a[i]} - double{b[i]};
    sums[lane] += d * d;
  };
  size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < a.size(); ++i) add(i, 0);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace mezzotint
