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

void product_of_rows(std::span<const float> a, const Tensor& b, std::span<float> out) {
  const int64_t r = b.dim(0), k = b.dim(1);
  const int64_t m = static_cast<int64_t>(a.size()) / r;
  MZ_CHECK(static_cast<int64_t>(a.size()) == m * r && static_cast<int64_t>(out.size()) == m * k);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ld(m), ld(k), ld(r), 1.0f, a.data(), ld(r),
              b.data<float>(), ld(k), 0.0f, out.data(), ld(k));
}

double squared_distance(const Tensor& a, const Tensor& b) {
  MZ_CHECK(a.size() == b.size());
  constexpr int64_t kLanes = 4;  // partial sums, so that additions need not wait for each other
  const float* x = a.data<float>();
  const float* y = b.data<float>();
  std::array<double, kLanes> sums{};
  const auto add = [&](int64_t i, int64_t lane) {
    const double d = double{x[i]} - double{y[i]};
    sums[static_cast<size_t>(lane)] += d * d;
  };
  int64_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < a.size(); ++i) add(i, 0);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace mezzotint
