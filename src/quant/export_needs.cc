#include "quant/export_needs.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "quant/calibrator.h"
#include "quant/source_reader.h"
#include "quant/statistics_check.h"
#include "quant/write_layer.h"
#include "solve/low_rank.h"
#include "solve/outputs.h"

namespace mezzotint {
namespace {

constexpr int64_t kProgram = int64_t{64} << 20;  // code, threads, names, the header of the output
constexpr int64_t kFloat = 4;
constexpr int64_t kRowsAtOnce = 128;       // of the weight, per thread (gptq.cc)
constexpr int64_t kBytesPerRowEntry = 13;  // weight, target, error and code of GPTQ
// 64 MiB of BF16: no cache keeps them from one trial to the next, as none has what is exported.
constexpr int64_t kTrialWeights = int64_t{1} << 25;
constexpr int kTrials = 4;               // the first one reads the weights and warms up
constexpr double kSmoothingTrials = 39;  // smoothing.h
constexpr double kSearchRows = 256;      // input_calibration.h
constexpr double kSearchOutputs = 512;   // calibrator.cc

// What a tensor of the source takes while it passes through an export.
struct Held {
  std::string name;
  int64_t source = 0;   // from when it is read ahead until it is written
  int64_t work = 0;     // while it is quantized
  int64_t written = 0;  // while the next ones are
};

LowRankCost branch_cost(const ExportPlan& plan, const SelectedLayer& layer,
                        const ExportOptions& options, int threads) {
  return low_rank_cost(layer.n, layer.k, plan.write_options.rank,
                       uses_input(*layer.algorithm, options.calibration) ? kAlternatingSteps : 0,
                       rounded_by(*layer.algorithm, options.compat), threads);
}

Held held_by(const ExportPlan& plan, const SelectedLayer& layer, const ExportOptions& options,
             int threads) {
  const Calibration& how = options.calibration;
  const bool calibrated = uses_input(*layer.algorithm, how);
  const int64_t floats = layer.n * layer.k * kFloat;
  Held held = {.name = layer.name};
  held.work = threads * kRowsAtOnce * layer.k * kBytesPerRowEntry;
  for (const PlannedTensor& t : planned_tensors(layer, plan.write_options, options)) {
    const int64_t bytes = byte_count(t.tensor.dtype, t.tensor.shape);
    held.work += 2 * bytes;  // as solved, and as written
    held.written += bytes;
  }
  if (smoothed_of(layer, options) == Smoothed::kYes) held.work += floats;
  if (layer.algorithm->parameters.low_rank) {
    const bool whole =
        holds_residual(*layer.algorithm, calibrated ? HasStatistics::kYes : HasStatistics::kNo);
    held.work += whole ? floats : std::min(kResidualRows, layer.n) * layer.k * kFloat;
    held.work += branch_cost(plan, layer, options, threads).bytes;
    // Measuring makes rows of the branch.
    held.written += threads * kRowsAtOnce * layer.k * kFloat;
  }
  // The Gram matrix of the file or the sample, smoothed, and its factor.
  if (calibrated && needs_gram(*layer.algorithm, how)) {
    held.work += 3 * layer.k * layer.k * kFloat;
  }
  return held;
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

// Of making codes and scales, and nothing else.
double seconds_per_weight(const WeightStore& source, const SelectedLayer& layer,
                          WriteOptions options, const ExecContext& ctx) {
  options.calibration = nullptr;
  const Tensor rows = trial_rows(source, layer);
  double best = std::numeric_limits<double>::infinity();
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    nearest_params(*layer.algorithm, rows, options, ctx);
    best = std::min(best, seconds_since(start));
  }
  return best / static_cast<double>(rows.size());
}

struct Work {
  double roundings = 1;   // how often every weight is quantized
  double operations = 0;  // of float products
};

// Of a layer whose input no other layer shares.
Work work_of(const ExportPlan& plan, const SelectedLayer& layer, const ExportOptions& options) {
  const Calibration& how = options.calibration;
  const auto n = static_cast<double>(layer.n), k = static_cast<double>(layer.k);
  const bool calibrated = uses_input(*layer.algorithm, how);
  Work work;
  if (layer.algorithm->parameters.low_rank) {
    work.operations += branch_cost(plan, layer, options, 1).operations;
    if (calibrated) work.roundings += kAlternatingSteps;
  }
  if (!calibrated) return work;
  if (needs_gram(*layer.algorithm, how)) work.operations += k * k * k / 3 + n * k * k;
  if (smoothed_of(layer, options) == Smoothed::kYes) {
    work.operations += kSmoothingTrials * 2 * kSearchRows * kSearchOutputs * k;
  }
  return work;
}

MemoryNeeds needs_of(std::span<const Held> held, const ExportOptions& options, InFlight in_flight) {
  std::vector<int64_t> sources, finished;
  int64_t largest = 0;  // of the source
  int64_t total = 0;    // that can wait to be used again
  for (const Held& tensor : held) {
    sources.push_back(tensor.source);
    finished.push_back(tensor.source + tensor.written);
    total += tensor.source + tensor.work;
    largest = std::max(largest, tensor.source);
  }
  std::ranges::reverse(finished);
  // The tensors next to the first one that are held with it.
  const auto beside = [](std::span<const int64_t> bytes, int64_t most) {
    const auto next = bytes.subspan(1, tensors_ahead(bytes, most));
    return std::accumulate(next.begin(), next.end(), int64_t{0});
  };
  MemoryNeeds needs;
  needs.in_flight = in_flight;
  for (size_t i = 0; i < held.size(); ++i) {
    int64_t bytes = held[i].source + held[i].work;
    if (options.workers > 1) {
      bytes += 2 * largest + held[i].written;  // any tensor may be its neighbour
    } else {
      bytes += beside(std::span(sources).subspan(i), in_flight.ahead);
      bytes += beside(std::span(finished).subspan(held.size() - 1 - i), in_flight.behind);
    }
    if (bytes > needs.bytes) {
      needs.bytes = bytes;
      needs.layer = held[i].name;
    }
  }
  needs.bytes += kProgram + std::min(in_flight.reuse, total);
  return needs;
}

bool is_allowed(const MemoryNeeds& needs, const ExportOptions& options) {
  return options.max_memory_bytes == 0 || needs.bytes <= options.max_memory_bytes;
}

}  // namespace

MemoryNeeds memory_needs(const ExportPlan& plan, const WeightStore& source,
                         const ExportOptions& options, int threads) {
  std::vector<Held> held;  // in the order in which they are written
  for (const TensorInfo& tensor : source.tensors()) {
    const auto layer = plan.quantized.find(tensor.name);
    held.push_back(layer == plan.quantized.end() ? Held{.name = tensor.name}
                                                 : held_by(plan, layer->second, options, threads));
    held.back().source = tensor.bytes;
  }
  InFlight in_flight = kLargeInFlight;
  if (options.workers == 1) {
    MemoryNeeds needs = needs_of(held, options, in_flight);
    if (is_allowed(needs, options)) return needs;
    in_flight.reuse = 0;
    needs = needs_of(held, options, in_flight);
    if (is_allowed(needs, options)) return needs;
  }
  return needs_of(held, options, {});
}

void require_memory(const MemoryNeeds& needs, const ExportOptions& options) {
  if (is_allowed(needs, options)) return;
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
    const Work work = work_of(plan, layer, options);
    seconds += work.roundings * entry->second * static_cast<double>(layer.n * layer.k);
    operations += work.operations;
  }
  return operations == 0 ? seconds : seconds + operations / product_rate(ctx);
}

}  // namespace mezzotint
