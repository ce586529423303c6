// Sums of MX products on N(0,1): products of codes and powers of two are exact, only sums over k
// round, so that every row stays within 2^-22 of the sum of magnitudes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/linear_driver.h"
#include "nn/linear_state.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"
#include "numerics/nibbles.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

using Rows = std::vector<std::vector<double>>;

constexpr int64_t kN = 96;
constexpr int64_t kK = 3072;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// One row of codes, one per byte, as numbers: codes times powers of two, times a second scale.
std::vector<double> values_of(const uint8_t* codes, const uint8_t* bytes, const float* dual,
                              Element element) {
  std::vector<double> values;
  for (int64_t k = 0; k < kK; ++k) {
    const double outer = dual == nullptr ? 1.0 : double{dual[k / kDualBlock]};
    values.push_back(std::ldexp(double{mx_element_to_float(codes[k], element)},
                                bytes[k / kMxBlock] - kE8M0Bias) *
                     outer);
  }
  return values;
}

LinearParams params_of(const std::string& algorithm, const Tensor& w) {
  const LayerTensors tensors = write_layer_params(
      *find_algorithm(algorithm), {.name = "l", .weight = w, .bias = {}}, {}, context());
  const LayerFile file = {.layer = "l",
                          .prefix = "l",
                          .file = "memory",
                          .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                            const auto it = std::ranges::find(tensors, name, &NamedTensor::name);
                            if (it == tensors.end()) return std::nullopt;
                            return it->tensor;
                          },
                          .dims = {.n = kN, .k = kK}};
  return read_layer_params(*find_algorithm(algorithm), file);
}

Rows weight_rows(const LinearParams& params) {
  const Element element = params.plan.weight.element;
  const auto* codes = reinterpret_cast<const uint8_t*>(params.codes.raw());
  Rows rows;
  for (int64_t n = 0; n < kN; ++n) {
    std::vector<uint8_t> row(kK);
    for (int64_t k = 0; k < kK; ++k) {
      row[static_cast<size_t>(k)] =
          element == Element::kE2M1 ? nibble_along_k(codes + n * kK / 2, k) : codes[n * kK + k];
    }
    const float* dual =
        params.dual_scale.empty() ? nullptr : params.dual_scale.data<float>() + n * dual_blocks(kK);
    rows.push_back(values_of(row.data(), params.block_scale.data<uint8_t>() + n * mx_blocks(kK),
                             dual, element));
  }
  return rows;
}

Rows input_rows(const LinearParams& params, const Tensor& x) {
  const int64_t m = x.dim(0);
  const bool dual = params.plan.activation.granularity == Granularity::kDualLevel;
  std::vector<uint8_t> codes(static_cast<size_t>(m * kK));
  std::vector<uint8_t> bytes(static_cast<size_t>(m * mx_blocks(kK)));
  std::vector<float> outer(static_cast<size_t>(m * dual_blocks(kK)));
  run_quantize_mx(choose_quantize_mx_kernel(Isa::kPortable),
                  {.x = x.raw(),
                   .x_stride = kK,
                   .k = kK,
                   .element = params.plan.activation.element,
                   .q = codes.data(),
                   .block_scale = bytes.data(),
                   .dual_scale = dual ? outer.data() : nullptr},
                  m, context());
  Rows rows;
  for (int64_t i = 0; i < m; ++i) {
    rows.push_back(values_of(codes.data() + i * kK, bytes.data() + i * mx_blocks(kK),
                             dual ? outer.data() + i * dual_blocks(kK) : nullptr,
                             params.plan.activation.element));
  }
  return rows;
}

// Of y:[m,kN] against the sums over k of the first `depth`, relative to the sums of magnitudes.
double worst_error(const std::vector<float>& y, const Rows& xs, const Rows& ws, int64_t depth) {
  double worst = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const std::vector<double>& x = xs[i / kN];
    const std::vector<double>& w = ws[i % kN];
    double sum = 0, magnitude = 0;
    for (size_t k = 0; k < static_cast<size_t>(depth); ++k) {
      sum += x[k] * w[k];
      magnitude += std::abs(x[k] * w[k]);
    }
    worst = std::max(worst, std::abs(double{y[i]} - sum) / magnitude);
  }
  return worst;
}

class MxSums : public testing::TestWithParam<std::tuple<const char*, int64_t>> {};

TEST_P(MxSums, AreWithinTwoToTheMinus22OfTheSumOfMagnitudesOnEveryIsa) {
  const auto& [algorithm, m] = GetParam();
  std::mt19937_64 random(2026);
  const Tensor x = normal_tensor(DType::kF32, {m, kK}, random);
  const LinearParams params = params_of(algorithm, normal_tensor(DType::kF32, {kN, kK}, random));
  const Rows xs = input_rows(params, x);
  const Rows ws = weight_rows(params);
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    const Linear linear("l", kN, kK, make_linear_state(params, static_cast<Isa>(isa)));
    std::vector<float> y(static_cast<size_t>(m * kN));
    linear.run({x.raw(), DType::kF32, m, kK, kK}, {y.data(), DType::kF32, m, kN, kN}, context());
    EXPECT_LE(worst_error(y, xs, ws, kK), 0x1p-22) << linear.kernel(m);
    EXPECT_GT(worst_error(y, xs, ws, kK - kMxBlock), 0x1p-22) << "a block less is seen";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Normal, MxSums,
    testing::Combine(testing::Values("W8A8_MXFP8", "W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE"),
                     testing::Values<int64_t>(1, 17)),  // rows that stream weights, and others
    [](const auto& info) {
      return std::get<0>(info.param) + std::string("_") + std::to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace mezzotint
