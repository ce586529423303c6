// export_quantized(): a float file into a quantized folder, one layer at a time.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/buffer_reuse.h"
#include "base/check.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/attention_file.h"
#include "quant/calibrator.h"
#include "quant/export_needs.h"
#include "quant/export_parts.h"
#include "quant/export_plan.h"
#include "quant/layer_report.h"
#include "quant/layer_writer.h"
#include "quant/quantized_folder.h"
#include "quant/source_reader.h"
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
  if (!options.calibration.statistics.empty()) {
    recipe += fmt::format("static tolerance {}\n", options.calibration.static_tolerance);
  }
  return recipe + descriptor_text(plan.descriptor);
}

class Exporter {
 public:
  Exporter(const WeightStore& source, const ExportOptions& options, ExportPlan plan,
           InFlight in_flight, const ExecContext& ctx)
      : source_(source),
        options_(options),
        plan_(std::move(plan)),
        in_flight_(in_flight),
        ctx_(ctx) {
    for (LayerReport& row : plan_.report.layers) row_of_[row.name] = &row;
    if (options_.workers > 1) split();
  }

  Report run(const fs::path& out) {
    out_ = out;
    recipe_ = recipe_of(source_, plan_, options_);
    if (options_.worker > 0) return run_part();
    StagingFolder folder(out,
                         {.rank = options_.rank,
                          .existing = options_.overwrite ? Existing::kReplace : Existing::kRefuse,
                          .leftover = options_.resume ? Leftover::kResume : Leftover::kDiscard,
                          .recipe = recipe_});
    if (folder.complete()) {
      plan_.report.notes.emplace_back("resumed: every file was there, only moved into place");
    } else {
      make_files(folder);
    }
    remove_parts(out);
    folder.publish();
    return std::move(plan_.report);
  }

 private:
  // Every process comes to the same owners: they depend on the source alone.
  void split() {
    std::vector<int64_t> bytes;
    for (const TensorInfo& tensor : source_.tensors()) bytes.push_back(tensor.bytes);
    const std::vector<int> owner = split_work(bytes, options_.workers);
    for (size_t i = 0; i < owner.size(); ++i) {
      const std::string& name = source_.tensors()[i].name;
      const auto layer = plan_.quantized.find(name);
      if (layer == plan_.quantized.end()) {
        if (!plan_.consumed.contains(name)) owner_of_[name] = owner[i];
        continue;
      }
      owned_layers_[name] = owner[i];
      for (const PlannedTensor& planned :
           planned_tensors(layer->second, plan_.write_options, options_)) {
        owner_of_[planned.tensor.name] = owner[i];
      }
    }
  }

  // Of a tensor of the source.
  bool is_mine(const TensorInfo& tensor) const {
    if (options_.workers == 1) return true;
    const auto layer = owned_layers_.find(tensor.name);
    if (layer != owned_layers_.end()) return layer->second == options_.worker;
    const auto plain = owner_of_.find(tensor.name);
    return plain != owner_of_.end() && plain->second == options_.worker;
  }

  Report run_part() {
    const PartFolder part(out_, {options_.worker, options_.workers, recipe_});
    if (!part.complete()) {
      if (!options_.calibration.statistics.empty()) make_calibrator();
      std::vector<TensorPlan> mine;
      for (const TensorPlan& tensor : plan_.tensors) {
        const auto owner = owner_of_.find(tensor.name);
        if (owner != owner_of_.end() && owner->second == options_.worker) mine.push_back(tensor);
      }
      Writer writer(part.weights(), std::move(mine), {.resume = true});
      write_mine(writer);
      std::map<std::string, double> sqnr;
      for (const LayerReport& row : plan_.report.layers) {
        if (row.weight_sqnr_db != 0) sqnr[row.name] = row.weight_sqnr_db;
      }
      part.write_sqnr(sqnr);
      writer.finish();
    }
    plan_.report.notes.push_back(fmt::format("part {} of {}: process 0 makes the output",
                                             options_.worker, options_.workers));
    return std::move(plan_.report);
  }

  bool is_copied(int rank, const Writer& writer) const {
    return std::ranges::all_of(owner_of_, [&](const auto& entry) {
      return entry.second != rank || writer.done(entry.first);
    });
  }

  // Process 0: what the others made.
  void copy_parts(Writer& writer) {
    for (int rank = 1; rank < options_.workers; ++rank) {
      if (is_copied(rank, writer)) continue;
      const auto poll = [&] { tell(fmt::format("waiting for rank {}", rank), 0); };
      const FinishedPart part = wait_for_part(out_, {rank, options_.workers, recipe_}, poll);
      const WeightStore made = WeightStore::open_file(part.weights);
      for (const TensorInfo& tensor : made.tensors()) {
        if (!writer.done(tensor.name)) writer.put(tensor.name, made.read(tensor.name));
        made.release(tensor.name);
      }
      for (const auto& [layer, db] : part.sqnr_db) {
        const auto row = row_of_.find(layer);
        if (row != row_of_.end()) row->second->weight_sqnr_db = db;
      }
    }
  }

  void make_files(StagingFolder& folder) {
    Writer writer = begin(folder);
    write_mine(writer);
    if (options_.workers > 1) copy_parts(writer);
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

  void write_mine(Writer& writer) {
    std::vector<const TensorInfo*> left;
    std::vector<std::string> names;
    for (const TensorInfo& tensor : source_.tensors()) {
      if (!is_mine(tensor) || is_resumed(tensor, writer)) continue;
      left.push_back(&tensor);
      names.push_back(tensor.name);
      bytes_left_ += tensor.bytes;
    }
    const BufferReuse reuse(in_flight_.reuse);
    LayerWriter layers(writer, in_flight_.behind);
    SourceReader reader(source_, names, in_flight_.ahead);
    for (size_t i = 0; i < left.size(); ++i) {
      reader.want(i);
      write(*left[i], layers);
    }
    layers.finish();
    tell_written(layers);
  }

  // What fails before the first tensor leaves nothing behind.
  Writer begin(StagingFolder& folder) {
    try {
      if (!options_.calibration.statistics.empty()) calibrate();
      WriterOptions writer_options = {.metadata = metadata_of(source_),
                                      .max_shard_bytes = options_.max_shard_bytes,
                                      .resume = folder.resumed()};
      return Writer(folder.partial() / weight_file_name(plan_.quant_type, options_.rank),
                    plan_.tensors, writer_options);
    } catch (...) {
      if (!folder.resumed()) folder.abandon();
      throw;
    }
  }

  void make_calibrator() {
    calibrator_.emplace(source_, options_.calibration, plan_.quantized, plan_.write_options, ctx_);
  }

  // The policy needs every layer's input before the first layer is written.
  void calibrate() {
    make_calibrator();
    const bool by_step = std::ranges::any_of(plan_.quantized, [](const auto& entry) {
      return entry.second.algorithm->contract->mode == ActivationMode::kPolicy;
    });
    if (!by_step) return;
    const bool given = options_.timestep_policy.has_value();
    timestep_policy_ = given ? *options_.timestep_policy : calibrator_->timestep_policy();
    const std::string policy = timestep_policy_.text();
    plan_.descriptor.facts[facts::kTimestepPolicy] = policy;
    if (given) {
      plan_.report.notes.push_back("timestep policy, as given: " + policy);
      return;
    }
    plan_.descriptor.facts[facts::kStaticTolerance] =
        fmt::format("{}", options_.calibration.static_tolerance);
    plan_.report.notes.push_back(calibrator_->note_of(timestep_policy_));
  }

  // A tensor of the source: quantized here, then handed on, to be measured and written beside.
  void write(const TensorInfo& tensor, LayerWriter& layers) {
    const auto layer = plan_.quantized.find(tensor.name);
    LayerWork work;
    Unfinished unfinished = {.name = tensor.name, .bytes = tensor.bytes};
    if (layer != plan_.quantized.end()) {
      LayerReport& row = *row_of_.at(layer->second.name);
      unfinished.name = layer->second.name;
      unfinished.row = &row;
      work = quantized(layer->second, row);
    } else if (!plan_.consumed.contains(tensor.name)) {
      work.tensors.push_back({tensor.name, "", source_.read(tensor.name)});
    }
    work.release = [this, name = tensor.name] { source_.release(name); };
    work.bytes += tensor.bytes;
    unfinished_.push_back(std::move(unfinished));
    layers.put(std::move(work));
    tell_written(layers);
  }

  // Told when it is written: what the report says of it is known, and --resume will find it.
  void tell_written(const LayerWriter& layers) {
    for (const size_t written = layers.written(); told_ < written; ++told_) {
      const Unfinished next = std::exchange(unfinished_.front(), {});
      unfinished_.pop_front();
      bytes_done_ += next.bytes;
      tell(next.name, next.row == nullptr ? 0 : next.row->weight_sqnr_db);
    }
  }

  void tell(std::string layer, double sqnr_db) const {
    if (!options_.progress) return;
    options_.progress({.layer = std::move(layer),
                       .bytes_done = bytes_done_,
                       .bytes_total = bytes_left_,
                       .weight_sqnr_db = sqnr_db});
  }

  bool is_resumed(const TensorInfo& tensor, const Writer& writer) {
    const auto layer = plan_.quantized.find(tensor.name);
    if (layer == plan_.quantized.end()) {
      return !plan_.consumed.contains(tensor.name) && writer.done(tensor.name);
    }
    const bool done = is_done(layer->second, writer);
    resumed_layers_ += done ? 1 : 0;
    return done;
  }

  bool is_done(const SelectedLayer& layer, const Writer& writer) const {
    for (const PlannedTensor& planned : planned_tensors(layer, plan_.write_options, options_)) {
      if (!writer.done(planned.tensor.name)) return false;
    }
    return true;
  }

  // Quantizes, and reads back what is going to be written through the loader's own checks.
  LayerWork quantized(const SelectedLayer& layer, LayerReport& row) {
    const FloatLayer floats = float_layer(source_, layer);
    WrittenLayer written =
        write_and_read_back(floats, layer, plan_.write_options, options_.calibration,
                            calibrator_ ? &*calibrator_ : nullptr, ctx_);
    report_output_errors(layer, floats.weight, written.params, row);
    const auto measure = [this, &row, weight = floats.weight, params = std::move(written.params)] {
      add_weight_errors(weight, params, row, ctx_);
    };
    int64_t bytes = 0;
    for (const NamedTensor& tensor : written.tensors) bytes += tensor.tensor.byte_size();
    return {.tensors = std::move(written.tensors), .measure = measure, .bytes = bytes};
  }

  // Here, not beside: the calibrator serves one thread.
  void report_output_errors(const SelectedLayer& layer, const Tensor& weight,
                            const LinearParams& params, LayerReport& row) {
    if (!options_.output_errors || !calibrator_) return;
    const InputStatistics* input = calibrator_->statistics_of(layer);
    if (input == nullptr || input->tokens.empty()) return;
    add_output_errors(*layer.algorithm->contract, params, *input, weight, timestep_policy_, row,
                      ctx_);
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
    std::error_code ignored;
    if (!fs::is_regular_file(source_.folder() / kConfigName, ignored)) return;  // a bare file's
    std::ifstream config(source_.folder() / kConfigName, std::ios::binary);
    if (!config) return;
    const std::string text{std::istreambuf_iterator<char>(config), {}};
    folder.write(kConfigName, text);
  }

  // Handed on, not yet told.
  struct Unfinished {
    std::string name;
    int64_t bytes = 0;
    const LayerReport* row = nullptr;  // of a quantized layer
  };

  const WeightStore& source_;
  const ExportOptions& options_;
  ExportPlan plan_;
  InFlight in_flight_;
  const ExecContext& ctx_;
  fs::path out_;
  std::string recipe_;
  std::map<std::string, LayerReport*> row_of_;
  std::map<std::string, int> owner_of_;      // of tensors of the output, with several processes
  std::map<std::string, int> owned_layers_;  // of weights in the source that are quantized
  std::optional<Calibrator> calibrator_;
  TimestepPolicy timestep_policy_{};
  std::deque<Unfinished> unfinished_;
  size_t told_ = 0;  // layers that were written, and progress told of
  int64_t bytes_done_ = 0;
  int64_t bytes_left_ = 0;  // of the source, when this run began
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
  const MemoryNeeds needs = memory_needs(plan, source, options, ctx.threads());
  require_memory(needs, options);
  plan.report.memory_bytes = needs.bytes;
  plan.report.memory_layer = needs.layer;
  if (options.dry_run) {
    if (options.estimate_time) {
      plan.report.estimated_seconds = estimated_seconds(plan, source, options, ctx);
    }
    return std::move(plan.report);
  }
  check_apart(source, out);
  return Exporter(source, options, std::move(plan), needs.in_flight, ctx).run(out);
}

}  // namespace mezzotint
