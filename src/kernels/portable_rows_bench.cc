// Portable rows beside their reference, in turns: "times" is how much faster the best run is.
// ./x bench micro --benchmark_filter=versus_reference

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/bench_peak.h"
#include "kernels/linear_comparison.h"

namespace mezzotint {
namespace {

using namespace linear_problem;  // NOLINT(google-build-using-namespace): this file is about it

constexpr Size kSize = {64, 256, 768};
constexpr Size kQuantized = {64, 0, 3072};

template <typename Run>
void best_of(double& best, const Run& run) {
  const double start = bench::seconds_now();
  run();
  best = std::min(best, bench::seconds_now() - start);
}

// Times `row` and `reference`; `work` is what each does in one call.
template <typename Row, typename Reference>
void in_turns(benchmark::State& state, double work, const Row& row, const Reference& reference) {
  double row_seconds = 1e30, reference_seconds = 1e30;
  for (auto _ : state) {
    best_of(reference_seconds, reference);
    for (int i = 0; i < 5; ++i) best_of(row_seconds, row);
  }
  state.counters["giga_per_s"] = work / row_seconds / 1e9;
  state.counters["times"] = reference_seconds / row_seconds;
}

const char* scales_name(Scales scales) {
  switch (scales) {
    case Scales::kChannel:
      return "channel";
    case Scales::kGroups:
      return "groups";
    case Scales::kOffsets:
      return "offsets";
    case Scales::kBlocks:
      return "blocks";
    case Scales::kDualBlocks:
      return "dual";
  }
  return "";
}

void add_linear(const LinearKernel& row, Element element, Scales scales) {
  const std::string name = "versus_reference/" + std::string(row.name) +
                           "/element:" + std::to_string(static_cast<int>(element)) + "/" +
                           scales_name(scales);
  benchmark::RegisterBenchmark(name.c_str(), [&row, element, scales](benchmark::State& state) {
    const Problem p = make_problem(row, kSize, FloatType::kBF16, element, true, scales);
    in_turns(
        state, 2.0 * static_cast<double>(kSize.m * kSize.n * kSize.k),
        [&] { run(row, p, FloatType::kBF16); },
        [&] { run(reference_of(row), p, FloatType::kBF16); });
  })->Unit(benchmark::kMillisecond);
}

// x and room for codes, sums and both kinds of scales.
struct QuantizeProblem {
  std::vector<std::byte> x = as_type(floats(kQuantized.m * kQuantized.k, 1), FloatType::kBF16);
  std::vector<uint8_t> q =
      std::vector<uint8_t>(static_cast<size_t>(kQuantized.m * padded_k(kQuantized.k)));
  std::vector<uint8_t> block_scale = std::vector<uint8_t>(q.size());
  std::vector<float> scale = std::vector<float>(q.size());
  std::vector<int32_t> sum = std::vector<int32_t>(q.size());
};

void add_quantize_rows() {
  benchmark::RegisterBenchmark("versus_reference/quantize_rows/portable", [](benchmark::State&
                                                                                 state) {
    QuantizeProblem p;
    const auto with = [&](const char* name) {
      const QuantizeRowsKernel& row = *testing_data::quantize_rows_row(name);
      row.run({.x = p.x.data(),
               .x_type = FloatType::kBF16,
               .x_stride = kQuantized.k,
               .k = kQuantized.k,
               .q = reinterpret_cast<int8_t*>(p.q.data()),
               .q_stride = padded_k(kQuantized.k),
               .scale = p.scale.data(),
               .sum = p.sum.data(),
               .m_end = kQuantized.m});
    };
    in_turns(
        state, static_cast<double>(kQuantized.m * kQuantized.k),
        [&] { with("quantize_rows/portable"); }, [&] { with("quantize_rows/reference"); });
  })->Unit(benchmark::kMillisecond);
}

void add_quantize_mx(const char* what, Element element, bool dual) {
  const std::string name = std::string("versus_reference/quantize_mx/portable/") + what;
  benchmark::RegisterBenchmark(name.c_str(), [element, dual](benchmark::State& state) {
    QuantizeProblem p;
    const auto with = [&](std::string_view wanted) {
      for (const QuantizeMxKernel& row : quantize_mx_kernels()) {
        if (row.name != wanted) continue;
        row.run({.x = p.x.data(),
                 .x_type = FloatType::kBF16,
                 .x_stride = kQuantized.k,
                 .k = kQuantized.k,
                 .element = element,
                 .q = p.q.data(),
                 .block_scale = p.block_scale.data(),
                 .dual_scale = dual ? p.scale.data() : nullptr,
                 .m_end = kQuantized.m});
      }
    };
    in_turns(
        state, static_cast<double>(kQuantized.m * kQuantized.k),
        [&] { with("quantize_mx/portable"); }, [&] { with("quantize_mx/reference"); });
  })->Unit(benchmark::kMillisecond);
}

const bool kRegistered = [] {
  for (const LinearKernel& row : linear_kernels()) {
    if (row.isa != Isa::kPortable || is_reference(row)) continue;
    for (Element element : elements_of(row)) {
      for (Scales scales : scales_of(row)) add_linear(row, element, scales);
    }
  }
  add_quantize_rows();
  add_quantize_mx("e2m1", Element::kE2M1, false);
  add_quantize_mx("e4m3", Element::kE4M3, false);
  add_quantize_mx("dual", Element::kE2M1, true);
  return true;
}();

}  // namespace
}  // namespace mezzotint
