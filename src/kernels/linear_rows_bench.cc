// Every row of kernels.inc but the references, on one thread. "share" is the best rate over the
// best rate of the arithmetic instruction in the same run: vpdpbusd for codes, FMA for floats.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "kernels/bench_peak.h"
#include "kernels/linear_driver.h"
#include "kernels/test_data.h"

namespace mezzotint {
namespace {

struct Size {
  int64_t m, n, k;
};

// FLUX.1 (4096 tokens), the demo model (2560 rows and adaLN's 32), one row.
constexpr Size kSizes[] = {{4096, 3072, 3072}, {2560, 768, 256}, {2560, 1024, 256},
                           {2560, 256, 1280},  {32, 1536, 256},  {1, 3072, 3072}};

void bench_linear(benchmark::State& state, const LinearKernel& row, Element element, Size size) {
  const ExecContext ctx({.threads = 1});
  const auto x = testing_data::floats(size.m * size.k, 1);
  const auto w_codes = testing_data::codes(size.n * size.k * 4, 2);
  const std::vector<float> scale(static_cast<size_t>(size.n), 0.01f);
  const std::vector<float> bias(static_cast<size_t>(size.n), 0.5f);
  std::vector<float> w_floats;
  WeightCodes w{element, size.n, size.k, reinterpret_cast<const std::byte*>(w_codes.data())};
  if (element == Element::kF32) {
    w_floats = testing_data::floats(size.n * size.k, 3);
    w.data = reinterpret_cast<const std::byte*>(w_floats.data());
  }
  const Buffer blob = pack_weight(layout_row(row.layout), w, 0);
  const int64_t stride = padded_k(size.k);
  std::vector<int8_t> xq(static_cast<size_t>(size.m * stride));
  std::vector<float> x_scale(static_cast<size_t>(size.m));
  std::vector<int32_t> x_sum(static_cast<size_t>(size.m));
  const QuantizeRowsTile quantize{.x = x.data(),
                                  .x_stride = size.k,
                                  .k = size.k,
                                  .q = xq.data(),
                                  .q_stride = stride,
                                  .scale = x_scale.data(),
                                  .sum = x_sum.data()};
  run_quantize_rows(choose_quantize_rows_kernel(active_isa()), quantize, size.m, ctx);
  std::vector<float> y(static_cast<size_t>(size.m * size.n));
  const LinearTile call{.x = x.data(),
                        .x_stride = size.k,
                        .xq = xq.data(),
                        .xq_stride = stride,
                        .x_scale = x_scale.data(),
                        .x_sum = x_sum.data(),
                        .w = packed_payload(blob),
                        .w_element = element,
                        .w_scale = element == Element::kInt8 ? scale.data() : nullptr,
                        .bias = bias.data(),
                        .m = size.m,
                        .n = size.n,
                        .k = size.k,
                        .y = y.data(),
                        .y_stride = size.n};
  const bool integer = row.activation == ActivationForm::kInt8Rows;
  bench::BesidePeak beside(integer ? bench::Arithmetic::kInt8Dot : bench::Arithmetic::kFloat);
  for (auto _ : state) {
    beside.measure([&] { run_linear(row, call, ctx); });
  }
  const double operations = 2.0 * static_cast<double>(size.m * size.n * size.k);
  state.counters["best_us"] = beside.best_seconds() * 1e6;
  state.counters["gops"] = operations / beside.best_seconds() / 1e9;
  state.counters["share"] = beside.share(operations);
}

void add(const LinearKernel& row, Element element, const char* element_name) {
  for (const Size& size : kSizes) {
    const std::string name = std::string(row.name) + "/" + element_name + "/" +
                             std::to_string(size.m) + "x" + std::to_string(size.n) + "x" +
                             std::to_string(size.k);
    benchmark::RegisterBenchmark(name.c_str(), [&row, element, size](benchmark::State& state) {
      bench_linear(state, row, element, size);
    })->Unit(benchmark::kMicrosecond);
  }
}

const bool kRegistered = [] {
  for (const LinearKernel& row : linear_kernels()) {
    if (is_reference(row) || row.isa > detected_isa()) continue;
    if (row.layout == LayoutId::kFloatRows) {
      add(row, Element::kF32, "f32");
      add(row, Element::kBF16, "bf16");
    } else {
      add(row, Element::kInt8, "int8");
    }
  }
  return true;
}();

}  // namespace
}  // namespace mezzotint
