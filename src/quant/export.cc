// export_quantized(): a float file into a quantized folder, one layer at a time.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/attention_file.h"
#include "quant/calibrator.h"
#include "quant/export_plan.h"
#include "quant/layer_report.h"
#include "quant/quantized_folder.h"
#include "quant/staging_folder.h"
#include "quant/written_layer.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "config.json";

// Everything that the output depends on, and the state of the source files.
std::string recipe_of(const WeightStore& source, const ExportPlan& plan,
                      const ExportOptions& options) {
  std::string recipe = fmt::format("shards {}\n", options.max_shard_bytes);
  for (const fs::path& file : source.files()) {
    std::error_code error;
    const auto written = fs::last_write_time(file, error).time_since_epoch().count();
    recipe += fmt::format("source {} {} {}\n", file.filename().string(), fs::file_size(file, error),
                          written);
  }
  if (options.timestep_policy) recipe += options.timestep_policy->text() + "\n";
  return recipe + descriptor_text(plan.descriptor);
}

class Exporter {
 public:
  Exporter(const WeightStore& source, const ExportOptions& options, ExportPlan plan,
           const ExecContext& ctx)
      : source_(source), options_(options), plan_(std::move(plan)), ctx_(ctx) {
    for (LayerReport& row : plan_.report.layers) row_of_[row.name] = &row;
  }

  Report run(const fs::path& out) {
    StagingFolder folder(out,
                         {.rank = options_.rank,
                          .existing = options_.overwrite ? Existing::kReplace : Existing::kRefuse,
                          .leftover = options_.resume ? Leftover::kResume : Leftover::kDiscard,
                          .recipe = recipe_of(source_, plan_, options_)});
    if (folder.complete()) {
      plan_.report.notes.emplace_back("resumed: every file was there, only moved into place");
    } else {
      make_files(folder);
    }
    folder.publish();
    return std::move(plan_.report);
  }

 private:
  void make_files(const StagingFolder& folder) {
    if (!options_.calibration.statistics.empty()) calibrate();
    WriterOptions writer_options = {.metadata = metadata_of(source_),
                                    .max_shard_bytes = options_.max_shard_bytes,
                                    .resume = folder.resumed()};
    Writer writer(folder.partial() / weight_file_name(plan_.quant_type, options_.rank),
                  plan_.tensors, writer_options);
    for (const TensorInfo& tensor : source_.tensors()) {
      write(tensor, writer);
      source_.release(tensor.name);
      bytes_done_ += tensor.bytes;
    }
    for (const SelectedAttention& attention : plan_.attentions) write_attention(attention, writer);
    plan_.descriptor.facts[facts::kRun] = writer.finish();
    copy_config(folder);
    folder.write(descriptor_file_name(plan_.quant_type, options_.rank),
                 descriptor_text(plan_.descriptor));
    folder.mark_complete();
    if (resumed_layers_ > 0) {
      plan_.report.notes.push_back(fmt::format(
          "resumed: {} layers were done before, their SQNR is not known", resumed_layers_));
    }
  }

  // The policy needs every layer's input before the first layer is written.
  void calibrate() {
    calibrator_.emplace(source_, options_.calibration, plan_.quantized, plan_.write_options, ctx_);
    const bool by_step = std::ranges::any_of(plan_.quantized, [](const auto& entry) {
      return entry.second.algorithm->contract->mode == ActivationMode::kPolicy;
    });
    if (!by_step) return;
    const bool given = options_.timestep_policy.has_value();
    timestep_policy_ = given ? *options_.timestep_policy : calibrator_->timestep_policy();
    const std::string policy = timestep_policy_.text();
    plan_.descriptor.facts[facts::kTimestepPolicy] = policy;
    plan_.report.notes.push_back(
        fmt::format("timestep policy, {}: {}", given ? "as given" : "from the statistics", policy));
  }

  void write(const TensorInfo& tensor, Writer& writer) {
    const auto layer = plan_.quantized.find(tensor.name);
    double sqnr_db = 0;
    if (layer != plan_.quantized.end()) {
      sqnr_db = write_layer(layer->second, writer);
    } else if (!plan_.consumed.contains(tensor.name) && !writer.done(tensor.name)) {
      writer.put(tensor.name, source_.read(tensor.name).buffer().bytes());
    }
    if (!options_.progress) return;
    options_.progress({.layer = layer == plan_.quantized.end() ? tensor.name : layer->second.name,
                       .bytes_done = bytes_done_ + tensor.bytes,
                       .bytes_total = source_.total_bytes(),
                       .weight_sqnr_db = sqnr_db});
  }

  bool is_done(const SelectedLayer& layer, const Writer& writer) const {
    for (const PlannedTensor& planned : planned_tensors(layer, plan_.write_options, options_)) {
      if (!writer.done(planned.tensor.name)) return false;
    }
    return true;
  }

  // Quantizes, reads back what is going to be written through the loader's own checks, writes.
  double write_layer(const SelectedLayer& layer, Writer& writer) {
    if (is_done(layer, writer)) {
      ++resumed_layers_;
      return 0;
    }
    const FloatLayer floats = float_layer(source_, layer);
    const WrittenLayer written =
        write_and_read_back(floats, layer, plan_.write_options, options_.calibration,
                            calibrator_ ? &*calibrator_ : nullptr, ctx_);
    LayerReport& row = *row_of_.at(layer.name);
    report_errors(layer, floats, written, row);
    for (const NamedTensor& tensor : written.tensors) writer.put(tensor.name, tensor.tensor);
    return row.weight_sqnr_db;
  }

  void report_errors(const SelectedLayer& layer, const FloatLayer& floats,
                     const WrittenLayer& written, LayerReport& row) {
    add_weight_errors(floats.weight, written.params, row, ctx_);
    if (!options_.output_errors || !calibrator_) return;
    const InputStatistics* input = calibrator_->statistics_of(layer);
    if (input == nullptr || input->tokens.empty()) return;
    add_output_errors(*layer.algorithm->contract, written.params, *input, floats.weight,
                      timestep_policy_, row, ctx_);
  }

  static void write_attention(const SelectedAttention& attention, Writer& writer) {
    const LayerTensors tensors =
        write_attention_params(*attention.algorithm, attention.name, attention.head_dim);
    read_attention_params(*attention.algorithm, {.layer = attention.name,
                                                 .prefix = attention.name,
                                                 .file = kBeingWritten,
                                                 .tensor = lookup_in(tensors),
                                                 .dims = {.head_dim = attention.head_dim}});
    for (const NamedTensor& tensor : tensors) {
      if (!writer.done(tensor.name)) writer.put(tensor.name, tensor.tensor);
    }
  }

  void copy_config(const StagingFolder& folder) const {
    if (source_.folder().empty()) return;
    std::ifstream config(source_.folder() / kConfigName, std::ios::binary);
    if (!config) return;  // a bare file has none
    const std::string text{std::istreambuf_iterator<char>(config), {}};
    folder.write(kConfigName, text);
  }

  const WeightStore& source_;
  const ExportOptions& options_;
  ExportPlan plan_;
  const ExecContext& ctx_;
  std::map<std::string, LayerReport*> row_of_;
  std::optional<Calibrator> calibrator_;
  TimestepPolicy timestep_policy_{};
  int64_t bytes_done_ = 0;
  int64_t resumed_layers_ = 0;
};

void check_apart(const WeightStore& source, const fs::path& out) {
  std::error_code error;
  const fs::path folder = source.folder().empty() ? fs::path(".") : source.folder();
  if (!fs::equivalent(folder, out, error) || error) return;
  throw Error(ErrorCode::kUsage, "the output folder is the folder of the source",
              {.file = out.string(), .fix = "choose another folder"});
}

}  // namespace

Report export_quantized(const WeightStore& source, const fs::path& out,
                        const ExportOptions& options, const ExecContext& ctx) {
  ExportPlan plan = plan_export(source, options);
  if (options.dry_run) return std::move(plan.report);
  check_apart(source, out);
  return Exporter(source, options, std::move(plan), ctx).run(out);
}

}  // namespace mezzotint
