// What stands between the linears of a model, on one thread, in nanoseconds per element: the best
// of many runs.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/bench_peak.h"
#include "kernels/float_ops.h"
#include "kernels/test_data.h"

namespace mezzotint {
namespace {

using testing_data::floats;

// A row of the demo model's MLP: in the first-level cache, as model code calls these ops.
constexpr int64_t kRow = 1024;

template <typename Run>
void best_ns_per_element(benchmark::State& state, int64_t elements, const Run& run) {
  constexpr int kRepeats = 64;  // of a microsecond each, so that the clock does not show
  double best = 1e30;
  for (auto _ : state) {
    const double start = bench::seconds_now();
    for (int i = 0; i < kRepeats; ++i) run();
    best = std::min(best, (bench::seconds_now() - start) / kRepeats);
  }
  state.counters["ns_per_element"] = best * 1e9 / static_cast<double>(elements);
}

void bench_float_ops(benchmark::State& state, Isa isa, int op) {
  const FloatOps& ops = float_ops(isa);
  const std::vector<float> x = floats(kRow, 1), a = floats(kRow, 2), b = floats(kRow, 3);
  std::vector<float> y(x.size());
  best_ns_per_element(state, kRow, [&] {
    if (op == 0) ops.silu(x.data(), y.data(), kRow);
    if (op == 1) ops.exp_sum(y.data(), 1.0f, 0.0f, kRow);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  });
}

void bench_typed_ops(benchmark::State& state, Isa isa, int op, FloatType type) {
  const FloatOps& ops = float_ops(isa);
  const std::vector<float> a = floats(kRow, 2), b = floats(kRow, 3);
  const auto x = testing_data::as_type(floats(kRow, 1), type);
  auto y = x;
  const HeadTurn turn = {.weight = a.data(), .eps = 1e-6f, .cos = b.data(), .sin = a.data()};
  best_ns_per_element(state, kRow, [&] {
    if (op == 0) ops.gelu_tanh(x.data(), y.data(), type, kRow);
    if (op == 1) {
      ops.layer_norm_modulate(x.data(), type, a.data(), b.data(), 1e-6f, y.data(), type, kRow);
    }
    if (op == 2) ops.rms_norm_rotate(x.data(), turn, y.data(), type, kRow);
    if (op == 3) ops.add_scaled(x.data(), type, a.data(), y.data(), y.data(), type, kRow);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  });
}

void bench_quantize_rows(benchmark::State& state, const QuantizeRowsKernel& row, FloatType type) {
  const auto x = testing_data::as_type(floats(kRow, 1), type);
  std::vector<int8_t> q(static_cast<size_t>(padded_k(kRow)));
  float scale = 0;
  int32_t sum = 0;
  const QuantizeRowsTile tile{.x = x.data(),
                              .x_type = type,
                              .x_stride = kRow,
                              .k = kRow,
                              .q = q.data(),
                              .q_stride = padded_k(kRow),
                              .scale = &scale,
                              .sum = &sum,
                              .m_end = 1};
  best_ns_per_element(state, kRow, [&] {
    row.run(tile);
    benchmark::ClobberMemory();
  });
}

const char* suffix(FloatType type) { return type == FloatType::kF32 ? "/f32" : "/bf16"; }

const bool kRegistered = [] {
  const char* names[] = {"silu", "exp_sum"};
  const char* typed_names[] = {"gelu_tanh", "layer_norm_modulate", "rms_norm_rotate", "add_scaled"};
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa > detected_isa()) continue;
    const std::string at = "/" + std::string(isa_name(isa));
    for (int op = 0; op < 2; ++op) {
      benchmark::RegisterBenchmark((names[op] + at).c_str(),
                                   [isa, op](benchmark::State& s) { bench_float_ops(s, isa, op); });
    }
    for (int op = 0; op < 4; ++op) {
      for (FloatType type : {FloatType::kF32, FloatType::kBF16}) {
        benchmark::RegisterBenchmark(
            (typed_names[op] + at + suffix(type)).c_str(),
            [isa, op, type](benchmark::State& s) { bench_typed_ops(s, isa, op, type); });
      }
    }
  }
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) {
    if (row.isa > detected_isa()) continue;
    for (FloatType type : {FloatType::kF32, FloatType::kBF16}) {
      const std::string name = std::string(row.name) + suffix(type);
      benchmark::RegisterBenchmark(
          name.c_str(), [&row, type](benchmark::State& s) { bench_quantize_rows(s, row, type); });
    }
  }
  return true;
}();

}  // namespace
}  // namespace mezzotint
