// Attention of S x S tokens, head_dim 128, BSHD, everything in (rotation and quantization of FP8
// too), beside the peak of the arithmetic that the row uses.
//   attention/ROW/FORM/TYPE/BATCHxSxHEADS/THREADS

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include <fmt/format.h>

#include "kernels/attention_op.h"
#include "kernels/bench_peak.h"
#include "kernels/test_data.h"

namespace mezzotint {
namespace {

struct Case {
  const AttentionKernel* row;
  AttentionForm form;
  FloatType type;
  int64_t batch, seq, heads;
  int threads;
};

constexpr int64_t kDim = 128;

std::vector<std::byte> values(const Case& c, int64_t count, uint32_t seed) {
  std::vector<float> x = testing_data::floats(count, seed);
  // Denormals among the test data would be what is timed.
  for (float& v : x) v = absolute(v) < 0x1p-20f ? 0.0f : clamp(v, -3, 3);
  return testing_data::as_type(x, c.type);
}

bench::Arithmetic arithmetic_of(const AttentionKernel& row) {
  return row.operand == FloatType::kBF16 ? bench::Arithmetic::kBf16Dot : bench::Arithmetic::kFloat;
}

void run(benchmark::State& state, const Case& c) {
  const int64_t count = c.batch * c.seq * c.heads * kDim;
  std::vector<std::byte> q = values(c, count, 1), k = values(c, count, 2), v = values(c, count, 3);
  std::vector<std::byte> out(q.size());
  const auto view = [&](std::vector<std::byte>& data) {
    return HeadsView{.data = data.data(),
                     .dtype = c.type == FloatType::kBF16 ? DType::kBF16 : DType::kF32,
                     .batch = c.batch,
                     .seq = c.seq,
                     .heads = c.heads,
                     .dim = kDim,
                     .batch_stride = c.seq * c.heads * kDim,
                     .seq_stride = c.heads * kDim,
                     .head_stride = kDim};
  };
  const std::vector<float> ones(kDim, 1.0f), unit(kDim, 0.08838834764f);  // 1 / sqrt(128)
  const Rotation r = {unit.data(), ones.data(), unit.data()};
  const AttentionSetup setup = {.form = c.form, .q_rot = r, .k_rot = r};
  const ExecContext ctx({.threads = c.threads});
  bench::BesidePeak beside(arithmetic_of(*c.row));
  for (auto _ : state) {
    beside.measure([&] {
      run_attention(view(q), view(k), view(v), view(out), {0.088f, {}}, setup, *c.row, ctx);
    });
  }
  const double operations = 4.0 * static_cast<double>(c.batch * c.seq * c.seq * c.heads * kDim);
  state.counters["best_ms"] = beside.best_seconds() * 1e3;
  state.counters["gflops"] = operations / beside.best_seconds() / 1e9;
  state.counters["share"] = beside.share(operations) / c.threads;
}

void add(const Case& c) {
  const std::string name = fmt::format(
      "{}/{}/{}/{}x{}x{}/{}", c.row->name, c.form == AttentionForm::kFp8 ? "fp8" : "float",
      c.type == FloatType::kBF16 ? "bf16" : "f32", c.batch, c.seq, c.heads, c.threads);
  benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State& s) { run(s, c); });
}

const bool kRegistered = [] {
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > detected_isa()) continue;
    for (const AttentionForm form : {AttentionForm::kFp8, AttentionForm::kFloat}) {
      const bool f32 = form == AttentionForm::kFloat && row.operand == FloatType::kF32;
      const FloatType type = f32 ? FloatType::kF32 : FloatType::kBF16;
      for (const int threads : {1, 2}) {
        for (const int64_t seq : {256, 512, 1024, 1536, 2048, 4608, 8192, 16384}) {
          add({&row, form, type, 1, seq, seq <= 1024 ? 24 : 4, threads});
        }
        add({&row, form, type, 1, 4608, 24, threads});
        add({&row, form, type, 32, 80, 2, threads});  // the demo model
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace mezzotint
