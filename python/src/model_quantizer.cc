#include "model_quantizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "nn/linear_state.h"
#include "quant/weight_errors.h"

namespace mezzotint {

ModelQuantizer::ModelQuantizer(WeightStore weights, const std::vector<LinearSlot>& slots,
                               ExportOptions options, ExecContext ctx)
    : weights_(std::move(weights)), options_(std::move(options)), ctx_(std::move(ctx)) {
  LayerSelection selection = select_slots(slots, options_, std::nullopt);
  notes_ = std::move(selection.notes);
  const bool has_statistics = !options_.calibration.statistics.empty();
  for (SelectedLayer& layer : selection.layers) {
    choices_.push_back(choice_of(layer));
    if (layer.algorithm == nullptr) continue;
    require_writable(*layer.algorithm, has_statistics ? HasStatistics::kYes : HasStatistics::kNo,
                     {.layer = layer.name});
    quantized_.emplace(layer.name + ".weight", std::move(layer));
  }
  how_ = {.group_size = options_.group_size,
          .rank = branch_rank(options_.svd_rank),
          .compat = options_.compat};
  if (has_statistics) calibrate();
}

void ModelQuantizer::calibrate() {
  if (options_.compat == Compat::kUpstream) {
    throw Error(ErrorCode::kUsage, "statistics do not go with upstream's exporter rules",
                {.fix = "leave out compat=\"upstream\", or stats="});
  }
  how_.steps = read_statistics_of(weights_, options_.calibration).steps;
  calibrator_.emplace(weights_, options_.calibration, quantized_, how_, ctx_);
  const bool by_step = std::ranges::any_of(quantized_, [](const auto& entry) {
    return entry.second.algorithm->contract->mode == ActivationMode::kPolicy;
  });
  if (!by_step) return;
  policy_ = calibrator_->timestep_policy();
  notes_.push_back(calibrator_->note_of(policy_));
}

ModelQuantizer::Quantized ModelQuantizer::layer(const std::string& name) {
  const SelectedLayer& selected = quantized_.at(name + ".weight");
  FloatLayer floats = {.name = name, .weight = weights_.read(name + ".weight"), .bias = {}};
  if (selected.has_bias) floats.bias = weights_.read(name + ".bias");
  WriteOptions how = how_;
  if (is_smoothed(*selected.algorithm, options_.calibration)) how.smoothed = Smoothed::kYes;
  if (uses_input(*selected.algorithm, options_.calibration)) {
    how.calibration = &calibrator_->input_of(selected);
  }
  Quantized quantized = {
      .layer = layer_of_float({.name = name,
                               .algorithm = std::string(selected.algorithm->canonical),
                               .n = selected.n,
                               .k = selected.k,
                               .compat = options_.compat,
                               .policy = policy_},
                              floats, how, ctx_)};
  std::vector<uintptr_t> addresses;
  for (const ModulePart& part : quantized.layer.parts) {
    addresses.push_back(reinterpret_cast<uintptr_t>(part.tensor.raw()));
  }
  const Linear linear = quantized.layer.layer.bind(addresses);
  quantized.weight_sqnr_db = weight_errors(floats.weight, params_of(*linear.state()), ctx_).sqnr_db;
  return quantized;
}

}  // namespace mezzotint
