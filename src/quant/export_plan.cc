#include "quant/export_plan.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "mezzotint/version.h"
#include "numerics/mx.h"
#include "quant/attention_file.h"
#include "quant/calibrator.h"
#include "quant/output_errors.h"
#include "quant/quantized_folder.h"
#include "quant/statistics_check.h"

namespace mezzotint {
namespace {

int64_t bytes_of(const WeightStore& store, const std::string& tensor) {
  const TensorInfo* info = store.find(tensor);
  return info == nullptr ? 0 : info->bytes;
}

// The most frequent dtype, in the order of DType among equals.
DType usual_dtype(const std::map<std::string, DType>& dtypes) {
  std::map<DType, int64_t> counts;
  for (const auto& [tensor, dtype] : dtypes) ++counts[dtype];
  return std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })
      ->first;
}

// One default and the exceptions, so that a model of one dtype costs one line.
void add_dtype_facts(const std::map<std::string, DType>& dtypes, const char* default_key,
                     Descriptor& descriptor) {
  if (dtypes.empty()) return;
  const DType usual = usual_dtype(dtypes);
  descriptor.facts[default_key] = dtype_name(usual);
  for (const auto& [tensor, dtype] : dtypes) {
    if (dtype != usual) descriptor.facts[facts::kDtypePrefix + tensor] = dtype_name(dtype);
  }
}

class Planner {
 public:
  Planner(const WeightStore& source, const ExportOptions& options)
      : source_(source), options_(options) {}

  ExportPlan plan() {
    check_not_negative("the group size", options_.group_size);
    check_not_negative("the rank of low-rank branches", options_.svd_rank);
    check_source_is_float();
    plan_.write_options = {.group_size = options_.group_size,
                           .rank = branch_rank(options_.svd_rank),
                           .compat = options_.compat};
    read_statistics_header();
    const std::optional<Preset> preset = choose_preset(options_.preset, source_);
    LayerSelection selection = select_layers(source_, options_, preset);
    plan_.report.notes = source_.warnings();
    std::ranges::move(selection.notes, std::back_inserter(plan_.report.notes));
    note_preset(preset);
    for (SelectedLayer& layer : selection.layers) add_layer(std::move(layer));
    for (SelectedAttention& attention : selection.attentions) add_attention(std::move(attention));
    if (plan_.quantized.empty() && plan_.attentions.empty()) nothing_to_quantize();
    note_groups();
    check_used();
    for (const TensorInfo& tensor : source_.tensors()) add_tensor(tensor);
    for (const SelectedAttention& attention : plan_.attentions) add_tensors(attention);
    check_names();
    add_facts();
    plan_.quant_type = usual_label();
    plan_.descriptor.model_quant_type = plan_.quant_type;
    plan_.report.bytes_before = source_.total_bytes();
    for (const TensorPlan& tensor : plan_.tensors) {
      plan_.report.bytes_after += byte_count(tensor.dtype, tensor.shape);
    }
    return std::move(plan_);
  }

 private:
  static void check_not_negative(const std::string& what, int64_t value) {
    if (value >= 0) return;
    throw Error(ErrorCode::kUsage, what + " is negative",
                {.expected = "0 or more", .found = std::to_string(value)});
  }

  void read_statistics_header() {
    const Calibration& how = options_.calibration;
    if (how.statistics.empty()) return;
    if (options_.compat == Compat::kUpstream) {
      throw Error(ErrorCode::kUsage, "statistics do not go with upstream's exporter rules",
                  {.fix = "leave out --compat upstream, or --stats"});
    }
    statistics_ = read_statistics_of(source_, how);
    plan_.write_options.steps = statistics_->steps;
    plan_.descriptor.facts[facts::kStatistics] = statistics_->run;
    plan_.descriptor.facts[facts::kCalibration] = to_text(how);
  }

  // Said once per algorithm: layers whose k the groups do not divide have one scale per row.
  void note_groups() {
    std::map<std::string_view, int64_t> without;
    for (const auto& [weight, layer] : plan_.quantized) {
      const int64_t group = wanted_group(layer);
      if (group > 0 && layer.k % group != 0) ++without[layer.algorithm->canonical];
    }
    for (const auto& [algorithm, layers] : without) {
      plan_.report.notes.push_back(
          fmt::format("{}: {} layers have one scale per row, as K is no multiple of the group size",
                      algorithm, layers));
    }
  }

  template <typename Predicate>
  bool any_quantized(Predicate fits) const {
    return std::ranges::any_of(plan_.quantized,
                               [&](const auto& entry) { return fits(*entry.second.algorithm); });
  }

  // Options that mean nothing to any layer. MX blocks are groups of 32 that are not chosen.
  void check_used() const {
    const bool blocks =
        options_.group_size == kMxBlock &&
        any_quantized([](const AlgorithmRow& row) { return has_mx_blocks(*row.contract); });
    if (options_.svd_rank != 0 &&
        !any_quantized([](const AlgorithmRow& row) { return row.parameters.low_rank; })) {
      no_low_rank_branch(options_.svd_rank);
    }
    if (options_.group_size == 0 || blocks || any_quantized(has_groups)) return;
    throw Error(ErrorCode::kUsage, "no layer has an algorithm with groups",
                {.expected = "no --group-size, or an integer algorithm such as W4A16",
                 .found = fmt::format("--group-size {}", options_.group_size)});
  }

  int64_t wanted_group(const SelectedLayer& layer) const {
    if (!has_groups(*layer.algorithm)) return 0;
    return options_.group_size != 0 ? options_.group_size : layer.algorithm->parameters.group;
  }

  // Codes copied under the label FLOAT would be read as weights.
  void check_source_is_float() const {
    constexpr std::string_view kScale = "_scale";
    for (const TensorInfo& scale : source_.tensors()) {
      if (!scale.name.ends_with(".weight_scale")) continue;
      const std::string weight = scale.name.substr(0, scale.name.size() - kScale.size());
      const TensorInfo* codes = source_.find(weight);
      if (codes == nullptr || is_floating(codes->dtype)) continue;
      throw Error(ErrorCode::kUsage, "the source is quantized already",
                  {.tensor = weight,
                   .file = source_.files().at(static_cast<size_t>(codes->file)).string(),
                   .expected = "float weights",
                   .found = fmt::format("{} beside {}", dtype_name(codes->dtype), scale.name),
                   .fix = "quantize the float model, or mezzotint dequantize this one first"});
    }
  }

  void note_preset(const std::optional<Preset>& preset) {
    if (preset) {
      plan_.descriptor.facts[facts::kPreset] = preset->name;
      plan_.report.notes.push_back(fmt::format("preset {} ({})", preset->name, preset->title));
    } else if (options_.preset != "none") {
      plan_.report.notes.emplace_back(
          "no preset fits the tensor names: every 2-D weight is quantized, embeddings included, "
          "unless --exclude or --rule names it");
    }
  }

  void add_layer(SelectedLayer layer) {
    const std::string weight = layer.name + ".weight";
    const std::string bias = layer.name + ".bias";
    const int64_t bytes =
        bytes_of(source_, weight) + (layer.has_bias ? bytes_of(source_, bias) : 0);
    LayerReport row = {.name = layer.name,
                       .algorithm = "FLOAT",
                       .reason = layer.reason,
                       .out_features = layer.n,
                       .in_features = layer.k,
                       .bytes_before = bytes,
                       .bytes_after = bytes};
    if (layer.algorithm == nullptr) {
      plan_.descriptor.facts[facts::kKeptPrefix + layer.name] = layer.reason;
    } else {
      require_writable(
          *layer.algorithm,
          options_.calibration.statistics.empty() ? HasStatistics::kNo : HasStatistics::kYes,
          {.layer = layer.name});
      if (statistics_) require_statistics_of(layer, *statistics_, options_.calibration);
      row.algorithm = layer.algorithm->canonical;
      row.bytes_after = 0;  // counted with the tensors
      if (layer.has_bias) plan_.consumed.emplace(bias, layer.name);
      plan_.quantized.emplace(weight, std::move(layer));
    }
    row_of_[row.name] = plan_.report.layers.size();
    plan_.report.layers.push_back(std::move(row));
  }

  void add_attention(SelectedAttention attention) {
    plan_.report.layers.push_back(
        {.name = attention.name,
         .algorithm = std::string(attention.algorithm ? attention.algorithm->canonical : "FLOAT"),
         .reason = attention.reason,
         .out_features = attention.head_dim,
         .in_features = attention.head_dim});
    add_measured(attention, plan_.report.layers.back());
    row_of_[attention.name] = plan_.report.layers.size() - 1;
    if (attention.algorithm != nullptr) plan_.attentions.push_back(std::move(attention));
  }

  void add_measured(const SelectedAttention& attention, LayerReport& row) const {
    if (!options_.output_errors || !statistics_) return;
    const AttentionStatistics* measured = measured_attention(*statistics_, attention);
    if (measured == nullptr) return;
    row.output_sqnr_db = sqnr_db(measured->error());
    row.step_errors = measured->step_errors();
  }

  void add_tensors(const SelectedAttention& attention) {
    LayerReport& row = plan_.report.layers[row_of_.at(attention.name)];
    for (PlannedTensor& planned :
         plan_attention_tensors(*attention.algorithm, attention.name, attention.head_dim)) {
      row.bytes_after += byte_count(planned.tensor.dtype, planned.tensor.shape);
      add(std::move(planned.tensor), planned.label);
    }
    plan_.descriptor.labels.emplace_back(attention.name + std::string(kAttentionSuffix),
                                         attention.algorithm->canonical);
  }

  [[noreturn]] void nothing_to_quantize() const {
    const size_t layers = plan_.report.layers.size();
    throw Error(ErrorCode::kUsage, "nothing to quantize",
                {.file = source_.files().front().string(),
                 .expected = "a layer: a tensor NAME.weight, 2-D, of a float dtype, K >= 32",
                 .found = layers == 0 ? "none" : fmt::format("{} layers, all kept float", layers),
                 .fix = layers == 0 ? "is the file quantized already? mezzotint inspect"
                                    : "name an algorithm with --algo or --rule"});
  }

  void add_tensor(const TensorInfo& tensor) {
    const auto layer = plan_.quantized.find(tensor.name);
    if (layer != plan_.quantized.end()) {
      add_quantized(layer->second);
    } else if (!plan_.consumed.contains(tensor.name)) {
      add({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape}, "FLOAT");
    }
  }

  void add_quantized(const SelectedLayer& layer) {
    LayerReport& row = plan_.report.layers[row_of_.at(layer.name)];
    for (PlannedTensor& planned : planned_tensors(layer, plan_.write_options, options_)) {
      row.bytes_after += byte_count(planned.tensor.dtype, planned.tensor.shape);
      add(std::move(planned.tensor), planned.label);
    }
  }

  void add(TensorPlan tensor, const std::string& label) {
    plan_.descriptor.labels.emplace_back(tensor.name, label);
    plan_.tensors.push_back(std::move(tensor));
  }

  void check_names() const {
    std::vector<std::string_view> names;
    for (const TensorPlan& tensor : plan_.tensors) names.push_back(tensor.name);
    std::ranges::sort(names);
    const auto twin = std::ranges::adjacent_find(names);
    if (twin == names.end()) return;
    throw Error(ErrorCode::kUsage, "a tensor of the source has a name that a quantized layer needs",
                {.tensor = std::string(*twin),
                 .file = source_.files().front().string(),
                 .fix = "keep that layer float with --exclude"});
  }

  void add_facts() {
    std::map<std::string, DType> weights;
    std::map<std::string, DType> biases;
    for (const auto& [weight, layer] : plan_.quantized) {
      weights[weight] = source_.info(weight).dtype;
      const std::string bias = layer.name + ".bias";
      if (layer.has_bias) biases[bias] = source_.info(bias).dtype;
    }
    add_dtype_facts(weights, facts::kWeightDtype, plan_.descriptor);
    add_dtype_facts(biases, facts::kBiasDtype, plan_.descriptor);
    plan_.descriptor.facts[facts::kVersion] = version();
    if (options_.compat == Compat::kUpstream) plan_.descriptor.facts[facts::kCompat] = "upstream";
  }

  // The algorithm that was asked for if any layer has it, else the label of most layers; among
  // equals the first of algorithms.inc.
  std::string usual_label() const {
    std::map<const AlgorithmRow*, int64_t> counts;  // rows of one array: ordered as in the table
    for (const auto& [weight, layer] : plan_.quantized) ++counts[layer.algorithm];
    const AlgorithmRow* asked = find_algorithm(options_.algorithm);
    if (asked != nullptr && counts.contains(asked)) return std::string(asked->canonical);
    if (counts.empty()) return std::string(plan_.attentions.front().algorithm->canonical);
    return std::string(std::ranges::max_element(counts, {}, [](const auto& entry) {
                         return entry.second;
                       })->first->canonical);
  }

  const WeightStore& source_;
  const ExportOptions& options_;
  std::optional<Statistics> statistics_;
  ExportPlan plan_;
  std::map<std::string, size_t> row_of_;
};

}  // namespace

std::vector<PlannedTensor> planned_tensors(const SelectedLayer& layer, const WriteOptions& how,
                                           const ExportOptions& options) {
  return plan_layer_tensors(
      *layer.algorithm, layer.name, written_dims(*layer.algorithm, layer.n, layer.k, how),
      layer.has_bias ? HasBias::kYes : HasBias::kNo, how.compat, smoothed_of(layer, options));
}

Smoothed smoothed_of(const SelectedLayer& layer, const ExportOptions& options) {
  return is_smoothed(*layer.algorithm, options.calibration) ? Smoothed::kYes : Smoothed::kNo;
}

std::map<std::string, std::string> metadata_of(const WeightStore& source) {
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : source.metadata()) {
    if (!key.starts_with("mezzotint")) metadata.emplace(key, value);
  }
  return metadata;
}

ExportPlan plan_export(const WeightStore& source, const ExportOptions& options) {
  return Planner(source, options).plan();
}

}  // namespace mezzotint
