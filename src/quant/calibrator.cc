#include "quant/calibrator.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "base/check.h"
#include "format/model_identity.h"
#include "mezzotint/error.h"
#include "quant/activation_rounding.h"
#include "quant/statistics_check.h"
#include "quant/write_layer.h"
#include "solve/outputs.h"
#include "solve/smoothing.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kSearchOutputs = 512;  // rows of weights that a search is held against

MultiplierGrid grid_of(const FileContract& contract) {
  return has_mx_blocks(contract) ? MultiplierGrid::kPowersOfTwo : MultiplierGrid::kBf16;
}

// `count` rows of w, evenly spaced, as F32.
Tensor some_rows(const Tensor& w, int64_t count) {
  const int64_t n = w.dim(0), k = w.dim(1);
  count = std::min(count, n);
  Tensor out = Tensor::allocate(DType::kF32, {count, k});
  for (int64_t i = 0; i < count; ++i) {
    widen_range(w, i * n / count * k, {out.mutable_data<float>() + i * k, static_cast<size_t>(k)});
  }
  return out;
}

Tensor stacked(const std::vector<Tensor>& parts) {
  int64_t rows = 0;
  for (const Tensor& part : parts) rows += part.dim(0);
  Tensor out = Tensor::allocate(DType::kF32, {rows, parts.front().dim(1)});
  auto* to = out.mutable_data<float>();
  for (const Tensor& part : parts) to = std::copy_n(part.data<float>(), part.size(), to);
  return out;
}

// The error of the outputs of `w` when x and w are quantized as the algorithm would.
class OutputError {
 public:
  OutputError(const AlgorithmRow& row, const WriteOptions& options, Tensor x, Tensor w,
              const ExecContext& ctx)
      : row_(row),
        options_(options),
        x_(std::move(x)),
        w_(std::move(w)),
        ctx_(ctx),
        exact_(outputs(x_, w_, ctx)) {}

  double operator()(std::span<const float> multipliers) const {
    Tensor x = Tensor::allocate(DType::kF32, x_.shape());
    auto* values = x.mutable_data<float>();
    const auto k = static_cast<size_t>(x.dim(1));
    for (size_t i = 0; i < static_cast<size_t>(x.size()); ++i) {
      values[i] = x_.data<float>()[i] * multipliers[i % k];
    }
    round_activations(*row_.contract, x, ctx_);
    const Tensor divided = divided_columns(w_, multipliers, ctx_);
    return squared_distance(outputs(x, rounded_weight(row_, divided, options_, ctx_), ctx_),
                            exact_);
  }

 private:
  const AlgorithmRow& row_;
  const WriteOptions& options_;
  Tensor x_, w_;
  const ExecContext& ctx_;
  Tensor exact_;
};

std::vector<float> floats_of(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_range(t, 0, values);
  return values;
}

}  // namespace

bool is_smoothed(const AlgorithmRow& row, const Calibration& how) {
  if (how.statistics.empty()) return false;
  if (row.parameters.solver == Solver::kAwq) return true;
  const bool rounds_x = row.contract->mode != ActivationMode::kFloat &&
                        row.contract->activation.element != Element::kInt4;
  return rounds_x && how.smoothing == Smoothing::kSearch;
}

bool uses_input(const AlgorithmRow& row, const Calibration& how) {
  if (how.statistics.empty()) return false;
  return row.parameters.needs_statistics || is_smoothed(row, how) ||
         how.feedback == ErrorFeedback::kAlways;
}

std::string to_text(const Calibration& how) {
  constexpr std::array kRanges = {"mse", "minmax", "percentile"};
  constexpr std::array kSmoothings = {"search", "none"};
  constexpr std::array kFeedbacks = {"by name", "always"};
  constexpr std::array kOrders = {"", ", order stored", ", order by energy"};
  return fmt::format(
      "range {}, smoothing {}, feedback {}{}", kRanges[static_cast<size_t>(how.range)],
      kSmoothings[static_cast<size_t>(how.smoothing)],
      kFeedbacks[static_cast<size_t>(how.feedback)], kOrders[static_cast<size_t>(how.order)]);
}

Statistics read_statistics_of(const WeightStore& source, const Calibration& how) {
  if (!(how.static_tolerance >= 0)) {
    throw Error(ErrorCode::kUsage, "the tolerance of static steps",
                {.expected = "0 or more", .found = fmt::format("{}", how.static_tolerance)});
  }
  Statistics statistics = read_statistics(how.statistics);
  const std::string identity = how.model.empty() ? model_identity(source) : how.model;
  if (statistics.model != identity) {
    throw Error(ErrorCode::kUsage, "the statistics are of another model",
                {.file = how.statistics.string(),
                 .expected = fmt::format("model {}", identity),
                 .found = fmt::format("model {}", statistics.model),
                 .fix = "mezzotint collect on the model that is quantized"});
  }
  if (!statistics.facts.empty()) {
    throw Error(ErrorCode::kUsage, "the statistics are of an unfinished collection",
                {.file = how.statistics.string(), .fix = "mezzotint collect --resume ends it"});
  }
  return statistics;
}

Calibrator::Calibrator(const WeightStore& source, const Calibration& how,
                       const QuantizedLayers& layers, const WriteOptions& write_options,
                       const ExecContext& ctx)
    : source_(source),
      how_(how),
      layers_(layers),
      write_options_(write_options),
      ctx_(ctx),
      statistics_(read_statistics_of(source, how)) {}

Calibrator::~Calibrator() = default;

std::vector<const SelectedLayer*> Calibrator::readers_of(const InputStatistics& input,
                                                         const AlgorithmRow& row) const {
  std::vector<const SelectedLayer*> readers;
  for (const std::string& member : input.members) {
    const auto layer = layers_.find(member + ".weight");
    if (layer != layers_.end() && layer->second.algorithm == &row) {
      readers.push_back(&layer->second);
    }
  }
  return readers;
}

std::vector<float> Calibrator::solve_multipliers(const InputStatistics& input,
                                                 const AlgorithmRow& row) {
  require_sample(input);
  const std::vector<const SelectedLayer*> readers = readers_of(input, row);
  MZ_CHECK(!readers.empty());
  std::vector<float> weight_amax(static_cast<size_t>(input.k), 0.0f);
  std::vector<Tensor> samples;
  const int64_t each = std::max<int64_t>(1, kSearchOutputs / static_cast<int64_t>(readers.size()));
  for (const SelectedLayer* reader : readers) {
    const std::string name = reader->name + ".weight";
    const Tensor w = source_.read(name);
    const std::vector<float> amax = column_amax(w, ctx_);
    std::ranges::transform(amax, weight_amax, weight_amax.begin(),
                           [](float a, float b) { return std::max(a, b); });
    samples.push_back(some_rows(w, each));
    source_.release(name);
  }
  const OutputError error(row, write_options_, sampled_rows(input, kSearchRows, {}),
                          stacked(samples), ctx_);
  const bool awq = row.parameters.solver == Solver::kAwq;
  return search_smoothing(floats_of(awq ? input.mean_abs : input.amax), weight_amax,
                          awq ? awq_candidates() : smoothing_candidates(), grid_of(*row.contract),
                          [&](std::span<const float> m) { return error(m); })
      .multipliers;
}

const InputStatistics* Calibrator::statistics_of(const SelectedLayer& layer) const {
  const InputStatistics* input = statistics_.of_linear(layer.name);
  return input != nullptr && input->k == layer.k ? input : nullptr;
}

InputCalibration& Calibrator::input_of(const SelectedLayer& layer) {
  const InputStatistics* input = &input_of_layer(statistics_, layer, how_);
  std::unique_ptr<InputCalibration>& known = inputs_[{input, layer.algorithm}];
  if (known == nullptr) {
    std::vector<float> multipliers;
    if (is_smoothed(*layer.algorithm, how_)) {
      multipliers = solve_multipliers(*input, *layer.algorithm);
    }
    known = std::make_unique<InputCalibration>(*input, how_, std::move(multipliers), ctx_);
  }
  if (current_ != nullptr && current_ != known.get()) current_->release();
  current_ = known.get();
  return *known;
}

TimestepPolicy Calibrator::timestep_policy() {
  std::vector<InputCalibration::StepError> sums(static_cast<size_t>(steps()));
  std::vector<const InputCalibration*> counted;
  for (const auto& [name, layer] : layers_) {
    if (layer.algorithm->contract->mode != ActivationMode::kPolicy) continue;
    const InputCalibration& input = input_of(layer);
    if (std::ranges::find(counted, &input) != counted.end()) continue;
    counted.push_back(&input);
    const auto errors = input.step_errors();
    for (size_t t = 0; t < sums.size(); ++t) {
      sums[t].fixed += errors[t] ? errors[t]->fixed : 0;
      sums[t].dynamic += errors[t] ? errors[t]->dynamic : 0;
    }
  }
  TimestepPolicy policy;
  for (size_t t = 0; t < sums.size(); ++t) {
    const bool is_static =
        sums[t].dynamic > 0 && sums[t].fixed <= how_.static_tolerance * sums[t].dynamic;
    if (is_static) policy.set(static_cast<int>(t), static_cast<int>(t), StepMode::kStatic);
  }
  return policy;
}

std::string Calibrator::note_of(const TimestepPolicy& policy) const {
  return fmt::format(
      "timestep policy, from the statistics, static within {} times the dynamic error: {}",
      how_.static_tolerance, policy.text());
}

}  // namespace mezzotint
