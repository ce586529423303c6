// What data-free export costs per layer and thread, for every algorithm that needs no statistics:
// the checks, the codes, the tensors of the file, the loader's reading of them and their errors.
// Beside it, in the same run, the rules of numerics/ element by element.
//
//   mezzotint_bench --benchmark_filter='Layer/.*'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/bench_peak.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/mx.h"
#include "quant/algorithm.h"
#include "quant/weight_errors.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

// The up projection of a 14-billion-parameter transformer, as its files hold it.
constexpr int64_t kN = 5120;
constexpr int64_t kK = 13824;

const Tensor& weight() {
  static const Tensor w = [] {
    std::mt19937 random(1);
    std::vector<float> row(kK);
    Tensor t = Tensor::allocate(DType::kBF16, {kN, kK});
    for (int64_t n = 0; n < kN; ++n) {
      for (float& v : row) v = static_cast<float>(static_cast<int32_t>(random())) * 0x1p-35f;
      narrow_range(row, t, n * kK);
    }
    return t;
  }();
  return w;
}

const ExecContext& one_thread() {
  static const ExecContext ctx({.threads = 1});
  return ctx;
}

template <typename Run>
void best_seconds(benchmark::State& state, const Run& run) {
  double best = 1e30;
  for (auto _ : state) {
    const double start = bench::seconds_now();
    run();
    best = std::min(best, bench::seconds_now() - start);
  }
  state.counters["best_s"] = best;
  state.counters["ns_per_weight"] = best * 1e9 / static_cast<double>(kN * kK);
}

void export_layer(benchmark::State& state, const AlgorithmRow& row, const WriteOptions& options) {
  const FloatLayer layer = {.name = "layer", .weight = weight(), .bias = {}};
  best_seconds(state, [&] {
    const LayerTensors tensors = write_layer_params(row, layer, options, one_thread());
    const auto find = [&](const std::string& name) -> std::optional<Tensor> {
      for (const NamedTensor& t : tensors) {
        if (t.name == name) return t.tensor;
      }
      return std::nullopt;
    };
    const LinearParams read = read_layer_params(row, {.layer = layer.name,
                                                      .prefix = layer.name,
                                                      .file = "(bench)",
                                                      .tensor = find,
                                                      .dims = {.n = kN, .k = kK},
                                                      .bias = BiasRule::kUnwanted});
    benchmark::DoNotOptimize(weight_errors(layer.weight, read, one_thread()).sqnr_db);
  });
}

// --- the rules, one element after another --------------------------------------------------------

void integers_by_the_rule(const std::vector<float>& row, Element element, int64_t group,
                          uint8_t* codes) {
  for (int64_t first = 0; first < kK; first += group) {
    float amax = 0;
    for (int64_t k = first; k < first + group; ++k) {
      amax = std::max(amax, absolute(row[static_cast<size_t>(k)]));
    }
    const float scale =
        element == Element::kInt4 ? int4_weight_scale(amax) : int8_channel_scale(amax);
    for (int64_t k = first; k < first + group; ++k) {
      const float v = row[static_cast<size_t>(k)];
      codes[k] = static_cast<uint8_t>(element == Element::kInt4 ? int4_code(v, scale)
                                                                : int8_code(v, scale));
    }
  }
}

// One exponent for each block; the search tries three.
void mx_by_the_rule(const std::vector<float>& row, Element element, uint8_t* codes) {
  for (int64_t k = 0; k < kK; k += kMxBlock) {
    benchmark::DoNotOptimize(mx_quantize_block(
        row.data() + k, kMxBlock, element, MxScaleRule::kFloor, Rounding::kHalfEven, codes + k));
  }
}

void textbook(benchmark::State& state, Element element, int64_t group) {
  std::vector<float> row(kK);
  std::vector<uint8_t> codes(kK);
  best_seconds(state, [&] {
    for (int64_t n = 0; n < kN; ++n) {
      widen_range(weight(), n * kK, row);
      if (element == Element::kInt8 || element == Element::kInt4) {
        integers_by_the_rule(row, element, group, codes.data());
      } else {
        mx_by_the_rule(row, element, codes.data());
      }
      benchmark::DoNotOptimize(codes.data());
      benchmark::ClobberMemory();
    }
  });
}

// --- registration --------------------------------------------------------------------------------

template <typename Run>
void add(const std::string& name, int64_t times, const Run& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->Iterations(times)->Unit(benchmark::kMillisecond);
}

bool registered() {
  for (const AlgorithmRow& row : algorithm_rows()) {
    const bool ours = row.contract != nullptr && row.name == row.canonical;
    if (!ours || row.parameters.needs_statistics) continue;
    add("Layer/" + std::string(row.name), 3,
        [&row](benchmark::State& state) { export_layer(state, row, {}); });
    if (!has_groups(row)) continue;
    add("Layer/" + std::string(row.name) + "_g64", 3,
        [&row](benchmark::State& state) { export_layer(state, row, {.group_size = 64}); });
  }
  constexpr std::array<std::pair<const char*, Element>, 4> kRules = {{{"int8", Element::kInt8},
                                                                      {"int4_g64", Element::kInt4},
                                                                      {"mxfp4", Element::kE2M1},
                                                                      {"mxfp8", Element::kE4M3}}};
  for (const auto& [name, element] : kRules) {
    add("Textbook/" + std::string(name), 1, [element = element](benchmark::State& state) {
      textbook(state, element, element == Element::kInt4 ? 64 : kK);
    });
  }
  return true;
}

[[maybe_unused]] const bool kRegistered = registered();

}  // namespace
}  // namespace mezzotint
