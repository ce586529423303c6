// Portable rows beside their reference, in turns: "times" is how much faster the best run is.
// ./x bench micro --benchmark_filter=versus_reference

#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "kernels/bench_peak.h"
#include "kernels/float_ops.h"
#include "kernels/linear_comparison.h"
#include "kernels/weight_ops.h"
#include "numerics/int8.h"
#include "numerics/mx.h"

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

const char* type_name(FloatType type) {
  if (type == FloatType::kF32) return "f32";
  return type == FloatType::kBF16 ? "bf16" : "f16";
}
constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};

// x and room for codes, sums and both kinds of scales.
struct QuantizeProblem {
  explicit QuantizeProblem(FloatType x_type)
      : type(x_type), x(as_type(floats(kQuantized.m * kQuantized.k, 1), x_type)) {}
  FloatType type;
  std::vector<std::byte> x;
  std::vector<uint8_t> q =
      std::vector<uint8_t>(static_cast<size_t>(kQuantized.m * padded_k(kQuantized.k)));
  std::vector<uint8_t> block_scale = std::vector<uint8_t>(q.size());
  std::vector<float> scale = std::vector<float>(q.size());
  std::vector<int32_t> sum = std::vector<int32_t>(q.size());
};

constexpr auto kElements = static_cast<double>(kQuantized.m * kQuantized.k);

void add_quantize_rows(FloatType type) {
  const std::string name =
      std::string("versus_reference/quantize_rows/portable/") + type_name(type);
  benchmark::RegisterBenchmark(name.c_str(), [type](benchmark::State& state) {
    QuantizeProblem p(type);
    const auto with = [&](const char* row_name) {
      const QuantizeRowsKernel& row = *testing_data::quantize_rows_row(row_name);
      row.run({.x = p.x.data(),
               .x_type = p.type,
               .x_stride = kQuantized.k,
               .k = kQuantized.k,
               .q = reinterpret_cast<int8_t*>(p.q.data()),
               .q_stride = padded_k(kQuantized.k),
               .scale = p.scale.data(),
               .sum = p.sum.data(),
               .m_end = kQuantized.m});
    };
    in_turns(
        state, kElements, [&] { with("quantize_rows/portable"); },
        [&] { with("quantize_rows/reference"); });
  })->Unit(benchmark::kMillisecond);
}

void add_quantize_mx(const char* what, Element element, bool dual, FloatType type) {
  const std::string name =
      std::string("versus_reference/quantize_mx/portable/") + what + "/" + type_name(type);
  benchmark::RegisterBenchmark(name.c_str(), [element, dual, type](benchmark::State& state) {
    QuantizeProblem p(type);
    const auto with = [&](std::string_view wanted) {
      for (const QuantizeMxKernel& row : quantize_mx_kernels()) {
        if (row.name != wanted) continue;
        row.run({.x = p.x.data(),
                 .x_type = p.type,
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
        state, kElements, [&] { with("quantize_mx/portable"); },
        [&] { with("quantize_mx/reference"); });
  })->Unit(benchmark::kMillisecond);
}

// --- weights: the formulas of numerics, element by element ---------------------------------------

void add_integer_weights() {
  benchmark::RegisterBenchmark("versus_reference/weights/portable/int8", [](benchmark::State&
                                                                                state) {
    const std::vector<float> w = floats(kQuantized.m * kQuantized.k, 1);
    std::vector<int8_t> codes(w.size());
    constexpr float kScale = 0.03f;
    in_turns(
        state, kElements,
        [&] {
          weight_ops(Isa::kPortable)
              .integer_codes(w.data(), {.scale = kScale, .low = -kInt8Max, .high = kInt8Max},
                             codes.data(), static_cast<int64_t>(w.size()));
        },
        [&] {
          for (size_t i = 0; i < w.size(); ++i) codes[i] = int8_code(w[i], kScale);
          benchmark::ClobberMemory();
        });
  })->Unit(benchmark::kMillisecond);
}

// What codes of one block under this scale miss, squared.
float missed(const float* w, Element element, uint8_t byte) {
  float sum = 0.0f;
  for (int64_t i = 0; i < kMxBlock; ++i) {
    const uint8_t code = mx_code(w[i], byte, element, Rounding::kHalfEven);
    const float miss = w[i] - mx_value(code, byte, element);
    sum += miss * miss;
  }
  return sum;
}

void encode_by_numerics(const float* w, Element element, uint8_t* codes, uint8_t* block_scale) {
  float amax = 0.0f;
  for (int64_t i = 0; i < kMxBlock; ++i) amax = std::max(amax, absolute(w[i]));
  const uint8_t byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, kExporterCeilX);
  uint8_t best = byte;
  float least = missed(w, element, byte);
  for (const int other : {byte - 1, byte + 1}) {
    const float misses = missed(w, element, static_cast<uint8_t>(other));
    if (misses < least) best = static_cast<uint8_t>(other);
    least = std::min(least, misses);
  }
  *block_scale = best;
  for (int64_t i = 0; i < kMxBlock; ++i) {
    codes[i] = mx_code(w[i], best, element, Rounding::kHalfEven);
  }
}

void add_mx_weights(const char* what, Element element) {
  const std::string name = std::string("versus_reference/weights/portable/") + what;
  benchmark::RegisterBenchmark(name.c_str(), [element](benchmark::State& state) {
    const std::vector<float> w = floats(kQuantized.m * kQuantized.k, 1);
    std::vector<uint8_t> codes(w.size()), scales(w.size() / kMxBlock);
    in_turns(
        state, kElements,
        [&] {
          weight_ops(Isa::kPortable)
              .mx_codes(w.data(), element, 1.0f, codes.data(), scales.data(),
                        static_cast<int64_t>(w.size()));
        },
        [&] {
          for (size_t b = 0; b < scales.size(); ++b) {
            encode_by_numerics(w.data() + b * kMxBlock, element, codes.data() + b * kMxBlock,
                               &scales[b]);
          }
        });
  })->Unit(benchmark::kMillisecond);
}

// --- rotation: rows of 128 by Sylvester's matrix of +-1, a product as it is defined --------------

void add_rotation() {
  constexpr int64_t kDim = 128;
  benchmark::RegisterBenchmark("versus_reference/hadamard/portable", [](benchmark::State& state) {
    std::vector<float> x = floats(kQuantized.m * kQuantized.k, 1);
    const std::vector<float> ones(kDim, 1.0f), after(kDim, 0.0883883476f);
    std::vector<float> h(kDim * kDim);
    for (size_t i = 0; i < h.size(); ++i) {
      h[i] = std::popcount((i / kDim) & (i % kDim)) % 2 == 0 ? 1.0f : -1.0f;
    }
    const auto rows = [&](const auto& rotate) {
      for (size_t at = 0; at < x.size(); at += kDim) rotate(x.data() + at);
    };
    in_turns(
        state, kElements,
        [&] {
          const FloatOps& ops = float_ops(Isa::kPortable);
          rows([&](float* row) { ops.hadamard(ones.data(), after.data(), row, kDim); });
        },
        [&] {
          rows([&](float* row) {
            float product[kDim] = {};
            for (size_t i = 0; i < kDim; ++i) {
              for (size_t j = 0; j < kDim; ++j) product[j] += row[i] * h[i * kDim + j];
            }
            for (size_t j = 0; j < kDim; ++j) row[j] = product[j] * after[j];
          });
        });
  })->Unit(benchmark::kMillisecond);
}

const bool kRegistered = [] {
  for (const LinearKernel& row : linear_kernels()) {
    if (row.isa != Isa::kPortable || is_reference(row)) continue;
    for (Element element : elements_of(row)) {
      for (Scales scales : scales_of(row)) add_linear(row, element, scales);
    }
  }
  for (const FloatType type : kTypes) {
    add_quantize_rows(type);
    add_quantize_mx("e2m1", Element::kE2M1, false, type);
    add_quantize_mx("e4m3", Element::kE4M3, false, type);
    add_quantize_mx("dual", Element::kE2M1, true, type);
  }
  add_integer_weights();
  add_mx_weights("e2m1", Element::kE2M1);
  add_mx_weights("e4m3", Element::kE4M3);
  add_rotation();
  return true;
}();

}  // namespace
}  // namespace mezzotint
