#include "quant/export_needs.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "quant/calibrator.h"
#include "quant/statistics_check.h"
#include "quant/write_layer.h"
#include "solve/outputs.h"

namespace mezzotint {
namespace {

constexpr int64_t kProgram = int64_t{64} << 20;  // code, threads, names, the header of the output
constexpr int64_t kFloat = 4;
constexpr int64_t kRowsAtOnce = 128;       // of the weight, per thread (gptq.cc)
constexpr int64_t kBytesPerRowEntry = 13;  // weight, target, error and code of GPTQ
constexpr int64_t kSketch = 64;            // columns of the low-rank solver
constexpr int64_t kTrialWeights = int64_t{1} << 22;
constexpr int kTrials = 2;             // the first one warms up
constexpr double kSplitProducts = 10;  // of the weight with a sketch (low_rank.cc)
constexpr double kStepProducts = 3;
constexpr double kAlternatingSteps = 8;  // write_layer.cc
constexpr double kSmoothingTrials = 39;  // smoothing.h
constexpr double kSearchRows = 256;      // input_calibration.h
constexpr double kSearchOutputs = 512;   // calibrator.cc

int64_t source_bytes(const WeightStore& source, const SelectedLayer& layer) {
  int64_t bytes = source.info(layer.name + ".weight").bytes;
  if (layer.has_bias) bytes += source.info(layer.name + ".bias").bytes;
  return bytes;
}

int64_t layer_bytes(const ExportPlan& plan, const WeightStore& source, const SelectedLayer& layer,
                    const ExportOptions& options, int threads) {
  const Calibration& how = options.calibration;
  const bool calibrated = uses_input(*layer.algorithm, how);
  const int64_t floats = layer.n * layer.k * kFloat;
  // Its own and, read ahead, that of the next layer, which may be as large.
  int64_t bytes =
      2 * source_bytes(source, layer) + threads * kRowsAtOnce * layer.k * kBytesPerRowEntry;
  for (const PlannedTensor& t : planned_tensors(layer, plan.write_options, options)) {
    // As solved, as written, and those of the layer before, which may be as large.
    bytes += 3 * byte_count(t.tensor.dtype, t.tensor.shape);
  }
  if (smoothed_of(layer, options) == Smoothed::kYes) bytes += floats;
  if (layer.algorithm->parameters.low_rank) {
    // The weight and the residual; of alternating steps, what to fit and what was rounded.
    bytes += (calibrated ? 4 : 2) * floats + (layer.n + layer.k) * kSketch * 3 * kFloat;
  }
  // The Gram matrix of the file or the sample, smoothed, and its factor.
  if (calibrated && needs_gram(*layer.algorithm, how)) bytes += 3 * layer.k * layer.k * kFloat;
  return bytes;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Multiplications and additions per second of the float products that solvers consist of.
double product_rate(const ExecContext& ctx) {
  constexpr int64_t kSize = 1024;
  Tensor x = Tensor::allocate(DType::kF32, {kSize, kSize});
  std::fill_n(x.mutable_data<float>(), x.size(), 1.0f);
  outputs(x, x, ctx);
  const auto start = std::chrono::steady_clock::now();
  outputs(x, x, ctx);
  return 2.0 * kSize * kSize * kSize / seconds_since(start);
}

// The first rows of the layer's weight, enough to be measured.
Tensor trial_rows(const WeightStore& source, const SelectedLayer& layer) {
  const Tensor w = source.read(layer.name + ".weight");
  const int64_t least = WriteOptions::kDefaultRank;
  const int64_t rows = std::min(layer.n, std::max(least, kTrialWeights / layer.k));
  const int64_t bytes = rows * layer.k * dtype_size(w.dtype());
  return Tensor(w.dtype(), {rows, layer.k}, w.buffer().slice(0, bytes));
}

double seconds_per_weight(const WeightStore& source, const SelectedLayer& layer,
                          WriteOptions options, const ExecContext& ctx) {
  options.calibration = nullptr;
  const Tensor rows = trial_rows(source, layer);
  double best = std::numeric_limits<double>::infinity();
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    rounded_weight(*layer.algorithm, rows, options, ctx);
    best = std::min(best, seconds_since(start));
  }
  return best / static_cast<double>(rows.size());
}

struct Work {
  double roundings = 1;   // how often every weight is quantized
  double operations = 0;  // of float products
};

// Of a layer whose input no other layer shares.
Work work_of(const SelectedLayer& layer, const ExportOptions& options) {
  const Calibration& how = options.calibration;
  const auto n = static_cast<double>(layer.n), k = static_cast<double>(layer.k);
  const bool calibrated = uses_input(*layer.algorithm, how);
  Work work;
  if (layer.algorithm->parameters.low_rank) {
    work.operations += kSplitProducts * 2 * n * k * kSketch;
    if (calibrated) {
      work.operations += kAlternatingSteps * kStepProducts * 2 * n * k * kSketch;
      work.roundings += kAlternatingSteps;
    }
  }
  if (!calibrated) return work;
  if (needs_gram(*layer.algorithm, how)) work.operations += k * k * k / 3 + n * k * k;
  if (smoothed_of(layer, options) == Smoothed::kYes) {
    work.operations += kSmoothingTrials * 2 * kSearchRows * kSearchOutputs * k;
  }
  return work;
}

}  // namespace

MemoryNeeds memory_needs(const ExportPlan& plan, const WeightStore& source,
                         const ExportOptions& options, int threads) {
  MemoryNeeds most;
  for (const auto& [weight, layer] : plan.quantized) {
    const int64_t bytes = layer_bytes(plan, source, layer, options, threads);
    if (bytes > most.bytes) most = {.bytes = bytes, .layer = layer.name};
  }
  most.bytes += kProgram;
  return most;
}

void require_memory(const MemoryNeeds& needs, const ExportOptions& options) {
  if (options.max_memory_bytes == 0 || needs.bytes <= options.max_memory_bytes) return;
  throw Error(ErrorCode::kResources, "a layer needs more memory than is allowed",
              {.layer = needs.layer,
               .expected = fmt::format("at most {:.4g} MB",
                                       static_cast<double>(options.max_memory_bytes) / 1e6),
               .found = fmt::format("about {} MB", needs.bytes / 1'000'000),
               .fix = "allow more with --max-memory, use fewer --threads, or give that layer an "
                      "algorithm without low rank or error feedback"});
}

double estimated_seconds(const ExportPlan& plan, const WeightStore& source,
                         const ExportOptions& options, const ExecContext& ctx) {
  std::map<std::pair<const AlgorithmRow*, int64_t>, double> measured;  // by K
  double seconds = 0, operations = 0;
  for (const auto& [weight, layer] : plan.quantized) {
    const auto [entry, is_new] = measured.try_emplace({layer.algorithm, layer.k}, 0.0);
    if (is_new) entry->second = seconds_per_weight(source, layer, plan.write_options, ctx);
    const Work work = work_of(layer, options);
    seconds += work.roundings * entry->second * static_cast<double>(layer.n * layer.k);
    operations += work.operations;
  }
  return operations == 0 ? seconds : seconds + operations / product_rate(ctx);
}

}  // namespace mezzotint
