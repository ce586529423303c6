// Rows of float and of int8 weights but the references, on one thread; ./x bench has the others.
// "share" is the best rate over the best rate of the arithmetic instruction in the same run:
// vpdpbusd for codes, FMA for floats.

#include <benchmark/benchmark.h>

#include <cstring>
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

// A call of a row and what it points to.
struct Problem {
  Problem(const LinearKernel& row, Element element, Size size);
  LinearTile call() const;

  Size size;
  Element element;
  std::vector<float> x, scale, bias, x_scale;
  std::vector<int8_t> xq;
  std::vector<int32_t> x_sum;
  Buffer blob;
  mutable std::vector<float> y;
};

Problem::Problem(const LinearKernel& row, Element w_element, Size s)
    : size(s),
      element(w_element),
      x(testing_data::floats(s.m * s.k, 1)),
      scale(static_cast<size_t>(s.n), 0.01f),
      bias(static_cast<size_t>(s.n), 0.5f),
      x_scale(static_cast<size_t>(s.m)),
      xq(static_cast<size_t>(s.m * padded_k(s.k))),
      x_sum(static_cast<size_t>(s.m)),
      y(static_cast<size_t>(s.m * s.n)) {
  const std::vector<float> w_floats = testing_data::floats(s.n * s.k, 2);
  const std::vector<int8_t> w_codes = testing_data::codes(s.n * s.k, 3);
  std::vector<std::byte> w(w_codes.size());
  if (element == Element::kInt8) {
    std::memcpy(w.data(), w_codes.data(), w.size());
  } else {
    w = testing_data::as_type(w_floats,
                              element == Element::kF32 ? FloatType::kF32 : FloatType::kBF16);
  }
  blob = pack_weight(layout_row(row.layout), {element, s.n, s.k, w.data()}, 0);
  run_quantize_rows(choose_quantize_rows_kernel(active_isa()),
                    {.x = x.data(),
                     .x_stride = s.k,
                     .k = s.k,
                     .q = xq.data(),
                     .q_stride = padded_k(s.k),
                     .scale = x_scale.data(),
                     .sum = x_sum.data()},
                    s.m, ExecContext({.threads = 1}));
}

LinearTile Problem::call() const {
  return {.x = x.data(),
          .x_stride = size.k,
          .xq = xq.data(),
          .xq_stride = padded_k(size.k),
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
}

void bench_linear(benchmark::State& state, const LinearKernel& row, Element element, Size size) {
  const ExecContext ctx({.threads = 1});
  const Problem problem(row, element, size);
  const bool integer = row.activation == ActivationForm::kInt8Rows;
  bench::BesidePeak beside(integer ? bench::Arithmetic::kInt8Dot : bench::Arithmetic::kFloat);
  for (auto _ : state) {
    beside.measure([&] { run_linear(row, problem.call(), ctx); });
  }
  const double operations = 2.0 * static_cast<double>(size.m * size.n * size.k);
  state.counters["best_us"] = beside.best_seconds() * 1e6;
  state.counters["gops"] = operations / beside.best_seconds() / 1e9;
  state.counters["share"] = beside.share(operations);
}

void add(const LinearKernel& row, Element element, const char* element_name) {
  for (const Size& size : kSizes) {
    if (row.declines != nullptr && row.declines({size.m, size.n, size.k}) != nullptr) continue;
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
    } else if (row.layout == LayoutId::kInt8Vnni ||
               (row.layout == LayoutId::kInt8Rows && row.weights == WeightForm::kChannel)) {
      add(row, Element::kInt8, "int8");
    }
  }
  return true;
}();

}  // namespace
}  // namespace mezzotint
