#include "quant/effective_weight.h"

#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 16;

struct Energy {
  double signal = 0;
  double noise = 0;
};

}  // namespace

void effective_row(const LinearParams& params, int64_t row, std::span<float> out) {
  const int64_t k = params.plan.k;
  MZ_CHECK(params.plan.weight.element == Element::kInt8);
  MZ_CHECK(static_cast<int64_t>(out.size()) == k);
  const int8_t* codes = params.codes.data<int8_t>() + row * k;
  const float scale = params.weight_scale.data<float>()[row];
  const float* mul = params.mul_scale.empty() ? nullptr : params.mul_scale.data<float>();
  for (int64_t i = 0; i < k; ++i) {
    const float value = static_cast<float>(codes[i]) * scale;
    out[static_cast<size_t>(i)] = mul == nullptr ? value : value * mul[i];
  }
}

double weight_sqnr_db(const Tensor& w, const LinearParams& params, const ExecContext& ctx) {
  const int64_t n = params.plan.n;
  const auto k = static_cast<size_t>(params.plan.k);
  std::vector<Energy> energies(static_cast<size_t>(n));  // per row, summed in order below
  parallel_for(ctx, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> exact(k);
    std::vector<float> quantized(k);
    for (int64_t row = begin; row < end; ++row) {
      widen_range(w, row * params.plan.k, exact);
      effective_row(params, row, quantized);
      Energy& energy = energies[static_cast<size_t>(row)];
      for (size_t i = 0; i < k; ++i) {
        const double error = static_cast<double>(exact[i]) - quantized[i];
        energy.signal += static_cast<double>(exact[i]) * exact[i];
        energy.noise += error * error;
      }
    }
  });
  Energy total;
  for (const Energy& energy : energies) {
    total.signal += energy.signal;
    total.noise += energy.noise;
  }
  if (total.noise == 0) return kExactSqnrDb;
  return 10.0 * std::log10(total.signal / total.noise);
}

}  // namespace mezzotint
