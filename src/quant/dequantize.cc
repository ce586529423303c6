// dequantize(): a quantized folder back into a plain float file.
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/parallel_for.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/effective_weight.h"
#include "quant/quantized_folder.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRowGrain = 16;
constexpr DType kForeignWeightDtype = DType::kBF16;

// What becomes of one tensor of the quantized file.
struct Origin {
  const LayerEntry* layer = nullptr;
  std::string_view suffix;  // in the contract
};

class Dequantizer {
 public:
  Dequantizer(const QuantizedFolder& folder, const DequantizeOptions& options,
              const ExecContext& ctx)
      : folder_(folder), options_(options), ctx_(ctx) {
    for (const LayerEntry& entry : folder_.layers) {
      for (const LayerTensor& tensor : layer_tensors(folder_, entry)) {
        origins_[tensor.info->name] = {&entry, tensor.spec->suffix};
      }
    }
    for (const AttentionEntry& entry : folder_.attentions) {
      for (const LayerTensor& tensor : attention_tensors(folder_, entry)) {
        rotations_.insert(tensor.info->name);
      }
    }
  }

  Report run(const fs::path& out_file) {
    note_foreign();
    note_attentions();
    Writer writer(out_file, plan(),
                  {.metadata = metadata(), .max_shard_bytes = 0, .resume = false});
    int64_t done = 0;
    for (const TensorInfo& tensor : folder_.weights.tensors()) {
      write(tensor, writer);
      folder_.weights.release(tensor.name);
      done += tensor.bytes;
      if (options_.progress) {
        options_.progress({.layer = tensor.name,
                           .bytes_done = done,
                           .bytes_total = folder_.weights.total_bytes(),
                           .weight_sqnr_db = 0});
      }
    }
    writer.finish();
    return std::move(report_);
  }

 private:
  Origin origin_of(const std::string& tensor) const {
    const auto it = origins_.find(tensor);
    return it == origins_.end() ? Origin{} : it->second;
  }

  std::vector<TensorPlan> plan() {
    std::vector<TensorPlan> tensors;
    for (const TensorInfo& tensor : folder_.weights.tensors()) {
      const Origin origin = origin_of(tensor.name);
      if (rotations_.contains(tensor.name)) continue;
      if (origin.layer == nullptr) {
        tensors.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
      } else if (origin.suffix == "weight") {
        tensors.push_back(plan_weight(*origin.layer));
      } else if (origin.suffix == "bias") {
        const std::string name = origin.layer->layer + ".bias";
        tensors.push_back({.name = name,
                           .dtype = source_dtype(name, facts::kBiasDtype, tensor.dtype),
                           .shape = tensor.shape});
      }
    }
    report_.bytes_before = folder_.weights.total_bytes();
    for (const TensorPlan& t : tensors) report_.bytes_after += byte_count(t.dtype, t.shape);
    return tensors;
  }

  // Also checks the layer, before anything is written.
  TensorPlan plan_weight(const LayerEntry& entry) {
    const LinearPlan plan = read_layer(folder_, entry).plan;
    TensorPlan tensor = {.name = entry.layer + ".weight", .dtype = {}, .shape = {plan.n, plan.k}};
    tensor.dtype = source_dtype(tensor.name, facts::kWeightDtype, kForeignWeightDtype);
    int64_t bytes_before = 0;
    for (const LayerTensor& part : layer_tensors(folder_, entry)) bytes_before += part.info->bytes;
    report_.layers.push_back({.name = entry.layer,
                              .algorithm = std::string(entry.algorithm->canonical),
                              .reason = {},
                              .out_features = plan.n,
                              .in_features = plan.k,
                              .bytes_before = bytes_before,
                              .bytes_after = byte_count(tensor.dtype, tensor.shape)});
    return tensor;
  }

  void write(const TensorInfo& tensor, Writer& writer) const {
    const Origin origin = origin_of(tensor.name);
    if (rotations_.contains(tensor.name)) return;
    if (origin.layer == nullptr) {
      writer.put(tensor.name, folder_.weights.read(tensor.name));
    } else if (origin.suffix == "weight") {
      const std::string name = origin.layer->layer + ".weight";
      const DType dtype = source_dtype(name, facts::kWeightDtype, kForeignWeightDtype);
      writer.put(name, effective_weight(read_layer(folder_, *origin.layer), dtype));
    } else if (origin.suffix == "bias") {
      const std::string name = origin.layer->layer + ".bias";
      const Tensor bias = widened(folder_.weights.read(tensor.name));
      const DType dtype = source_dtype(name, facts::kBiasDtype, tensor.dtype);
      const Tensor narrow = Tensor::allocate(dtype, tensor.shape);
      narrow_range({bias.data<float>(), static_cast<size_t>(bias.size())}, narrow, 0);
      writer.put(name, narrow);
    }
  }

  Tensor effective_weight(const LinearParams& params, DType dtype) const {
    const int64_t k = params.plan.k;
    Tensor weight = Tensor::allocate(dtype, {params.plan.n, k});
    const EffectiveWeight effective(params);
    parallel_for(ctx_, params.plan.n, kRowGrain, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * k));
      effective.rows(begin, rows);
      narrow_range(rows, weight, begin * k);
    });
    return weight;
  }

  DType source_dtype(const std::string& tensor, const char* default_key, DType foreign) const {
    const auto& facts = folder_.descriptor.facts;
    auto it = facts.find(facts::kDtypePrefix + tensor);
    if (it == facts.end()) it = facts.find(default_key);
    if (it == facts.end()) return foreign;
    const std::optional<DType> dtype = dtype_from_name(it->second);
    if (dtype && is_floating(*dtype)) return *dtype;
    throw Error(ErrorCode::kInput, "the descriptor gives a source dtype that is no float",
                {.tensor = tensor,
                 .file = folder_.files.descriptor.string(),
                 .expected = "F32, BF16, F16 or F64",
                 .found = it->second});
  }

  void note_foreign() {
    if (folder_.layers.empty() || folder_.descriptor.facts.contains(facts::kWeightDtype)) return;
    report_.notes.emplace_back(
        "the descriptor does not say which dtypes the source had: weights are written as BF16, "
        "biases as they are stored");
  }

  void note_attentions() {
    if (folder_.attentions.empty()) return;
    report_.notes.push_back(fmt::format(
        "{} attentions are float again: their rotations are left out", folder_.attentions.size()));
  }

  std::map<std::string, std::string> metadata() const {
    std::map<std::string, std::string> kept;
    for (const auto& [key, value] : folder_.weights.metadata()) {
      if (!key.starts_with("mezzotint")) kept.emplace(key, value);
    }
    return kept;
  }

  const QuantizedFolder& folder_;
  const DequantizeOptions& options_;
  const ExecContext& ctx_;
  std::map<std::string, Origin, std::less<>> origins_;
  std::set<std::string, std::less<>> rotations_;  // of attentions, which no float file holds
  Report report_;
};

}  // namespace

Report dequantize(const fs::path& descriptor, const fs::path& out_file,
                  const DequantizeOptions& options, const ExecContext& ctx) {
  std::error_code error;
  if (!options.overwrite && fs::exists(out_file, error)) {
    throw Error(ErrorCode::kUsage, "the output file exists already",
                {.file = out_file.string(), .fix = "choose another name, or --force"});
  }
  const QuantizedFolder folder = open_quantized(descriptor);
  require_no_problems(folder);
  return Dequantizer(folder, options, ctx).run(out_file);
}

}  // namespace mezzotint
