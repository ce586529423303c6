#include "cli/inspection.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/foreign_file.h"
#include "cli/interrupt.h"
#include "cli/tensor_check.h"
#include "format/content_hash.h"
#include "format/writer_layout.h"
#include "mezzotint/weights.h"
#include "models/flux.h"
#include "models/json_file.h"
#include "quant/quantized_folder.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWeightSuffix = ".weight";

// Calls `progress` with the bytes read so far.
class ByteProgress {
 public:
  ByteProgress(const InspectOptions& options, int64_t total) : options_(options), total_(total) {}
  void read(std::string_view tensor, int64_t bytes) {
    done_ += bytes;
    throw_if_interrupted();
    if (options_.progress) {
      options_.progress(static_cast<double>(done_), static_cast<double>(total_), tensor);
    }
  }

 private:
  const InspectOptions& options_;
  int64_t total_;
  int64_t done_ = 0;
};

void require_readable(const fs::path& path) {
  std::error_code failed;
  if (!fs::exists(path, failed)) {
    throw Error(ErrorCode::kInput, "no such file or folder", {.file = path.string()});
  }
  if (!fs::is_regular_file(path, failed)) return;
  const std::string container = foreign_container(path);
  if (container.empty()) return;
  throw Error(ErrorCode::kUnsupported, "not a file this version reads",
              {.file = path.string(),
               .expected = "safetensors, index.json, a descriptor or a folder of them",
               .found = container});
}

void count_tensors(const WeightStore& store, Inspection& result) {
  for (const fs::path& file : store.files()) result.files.push_back(file.string());
  for (const TensorInfo& tensor : store.tensors()) {
    DTypeCount& count = result.dtypes[std::string(dtype_name(tensor.dtype))];
    count.tensors += 1;
    count.bytes += tensor.bytes;
    result.parameters += element_count(tensor.shape);
  }
  result.tensors = static_cast<int64_t>(store.tensors().size());
  result.bytes = store.total_bytes();
}

// "FluxTransformer2DModel" from config.json, where there is one.
void add_architecture(const fs::path& folder, Inspection& result) {
  const fs::path config = folder / "config.json";
  std::error_code failed;
  if (!fs::exists(config, failed)) return;
  try {
    const JsonFile json = JsonFile::read(config);
    if (json.has("_class_name"))
      result.facts.emplace_back("architecture", json.string("_class_name"));
  } catch (const Error& error) {
    result.problems.push_back(error);
  }
}

bool is_linear_weight(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 && tensor.name.ends_with(kWeightSuffix);
}

std::string layer_of(std::string_view tensor) {
  return std::string(tensor.substr(0, tensor.size() - kWeightSuffix.size()));
}

LayerReport float_layer(const TensorInfo& tensor, std::string reason) {
  return {.name = layer_of(tensor.name),
          .algorithm = "FLOAT",
          .reason = std::move(reason),
          .out_features = tensor.shape[0],
          .in_features = tensor.shape[1],
          .bytes_after = tensor.bytes};
}

// The run id that our writer would give these bytes: any flipped bit changes it.
std::string run_id_of_store(const WeightStore& store, const std::vector<Hash128>& hashes) {
  std::vector<TensorPlan> plan;
  for (const TensorInfo& tensor : store.tensors()) {
    plan.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
  }
  return run_id_of(plan_layout("unused.safetensors", std::move(plan), {}), hashes);
}

void check_run_id(const WeightStore& store, const std::vector<Hash128>& hashes,
                  Inspection& result) {
  const auto stored = store.metadata().find("mezzotint_run");
  if (stored == store.metadata().end()) return;
  const std::string found = run_id_of_store(store, hashes);
  if (found == stored->second) return;
  result.problems.emplace_back(
      ErrorCode::kInput, "the content is not what was written",
      ErrorDetails{.file = store.files().front().string(),
                   .expected = "run " + stored->second,
                   .found = "run " + found,
                   .fix = "the file was damaged or edited: copy or export it again"});
}

// Every byte of every tensor; values of `checked` were looked at before.
void check_values(const WeightStore& store, const std::set<std::string>& checked,
                  ByteProgress& progress, Inspection& result) {
  std::vector<Hash128> hashes;
  for (const TensorInfo& info : store.tensors()) {
    const Tensor tensor = store.read(info.name);
    hashes.push_back(hash_bytes(tensor.buffer().bytes()));
    const std::string found = checked.contains(info.name) ? "" : non_finite_values(tensor);
    store.release(info.name);
    progress.read(info.name, info.bytes);
    if (found.empty()) continue;
    result.problems.emplace_back(
        ErrorCode::kInput, "a tensor holds values that are not finite",
        ErrorDetails{.tensor = info.name,
                     .file = store.files()[static_cast<size_t>(info.file)].string(),
                     .expected = "finite values",
                     .found = found});
  }
  check_run_id(store, hashes, result);
}

// --- float weights and what other tools wrote ----------------------------------------------------

Inspection inspect_weights(const fs::path& path, const InspectOptions& options) {
  const WeightStore store = WeightStore::open(path, options.component);
  const Dialect dialect = dialect_of(store);
  Inspection result;
  result.dialect = dialect.name;
  result.remark = dialect.remark;
  result.warnings = store.warnings();
  count_tensors(store, result);
  add_architecture(store.folder(), result);
  for (const TensorInfo& tensor : store.tensors()) {
    if (is_linear_weight(tensor) && is_floating(tensor.dtype)) {
      result.layers.layers.push_back(float_layer(tensor, ""));
    }
  }
  if (options.depth == Depth::kHeaders) return result;
  ByteProgress progress(options, store.total_bytes());
  check_values(store, {}, progress, result);
  return result;
}

// --- a quantized folder --------------------------------------------------------------------------

void add_facts(const QuantizedFolder& folder, Inspection& result) {
  const auto& stored = folder.descriptor.facts;
  const auto add = [&](const char* title, const char* key) {
    const auto fact = stored.find(key);
    if (fact != stored.end()) result.facts.emplace_back(title, fact->second);
  };
  if (!folder.descriptor.model_quant_type.empty()) {
    result.facts.emplace_back("model_quant_type", folder.descriptor.model_quant_type);
  }
  if (folder.files.rank) result.facts.emplace_back("rank", std::to_string(*folder.files.rank));
  add("written by mezzotint", facts::kVersion);
  add("preset", facts::kPreset);
  add("run", facts::kRun);
}

LayerReport attention_layer(const QuantizedFolder& folder, const AttentionEntry& entry) {
  LayerReport layer = {.name = entry.layer, .algorithm = std::string(entry.algorithm->name)};
  for (const LayerTensor& tensor : attention_tensors(folder, entry)) {
    layer.bytes_after += tensor.info->bytes;
    if (tensor.info->shape.size() != 2) continue;  // reported by --check
    layer.out_features = tensor.info->shape[0];
    layer.in_features = tensor.info->shape[1];
  }
  return layer;
}

void add_layers(const QuantizedFolder& folder, Inspection& result) {
  for (const LayerEntry& entry : folder.layers) {
    LayerReport layer;
    layer.name = entry.layer;
    layer.algorithm = entry.algorithm->name;
    for (const LayerTensor& tensor : layer_tensors(folder, entry)) {
      layer.bytes_after += tensor.info->bytes;
    }
    const LayerDims dims = stored_dims(folder, entry);
    layer.out_features = dims.n;
    layer.in_features = dims.k;
    result.layers.layers.push_back(std::move(layer));
  }
  for (const AttentionEntry& entry : folder.attentions) {
    result.layers.layers.push_back(attention_layer(folder, entry));
  }
  for (const TensorInfo& tensor : folder.weights.tensors()) {
    if (!is_linear_weight(tensor)) continue;
    const auto kept = folder.kept.find(layer_of(tensor.name));
    if (kept != folder.kept.end())
      result.layers.layers.push_back(float_layer(tensor, kept->second));
  }
}

void check_names(const QuantizedFolder& folder, Inspection& result) {
  const std::string file = folder.files.descriptor.string();
  std::set<std::string_view> labelled;
  for (const auto& [tensor, label] : folder.descriptor.labels) {
    labelled.insert(tensor);
    // A label may name a layer as a whole.
    const bool is_layer = folder.weights.find(tensor + std::string(kWeightSuffix)) != nullptr;
    if (folder.weights.find(tensor) != nullptr || is_layer || label.ends_with("FaQuant")) continue;
    if (!tensor.ends_with(kWeightSuffix)) continue;  // a key that describes the model
    result.problems.emplace_back(ErrorCode::kInput, "the descriptor names a tensor that is missing",
                                 ErrorDetails{.tensor = tensor, .file = file});
  }
  for (const TensorInfo& tensor : folder.weights.tensors()) {
    if (labelled.contains(tensor.name)) continue;
    result.problems.emplace_back(ErrorCode::kInput, "a tensor has no label in the descriptor",
                                 ErrorDetails{.tensor = tensor.name, .file = file});
  }
}

void check_layers(const QuantizedFolder& folder, const InspectOptions& options,
                  Inspection& result) {
  int64_t layer_bytes = 0;
  for (const LayerReport& layer : result.layers.layers) {
    if (layer.algorithm != "FLOAT") layer_bytes += layer.bytes_after;
  }
  ByteProgress progress(options, layer_bytes + folder.weights.total_bytes());
  std::set<std::string> checked;
  for (const LayerEntry& entry : folder.layers) {
    try {
      read_layer(folder, entry);
    } catch (const Error& error) {
      result.problems.push_back(error);
    }
    for (const LayerTensor& tensor : layer_tensors(folder, entry)) {
      checked.insert(tensor.info->name);
      progress.read(tensor.info->name, tensor.info->bytes);
    }
    release_layer(folder, entry);
  }
  for (const AttentionEntry& entry : folder.attentions) {
    try {
      read_attention(folder, entry);
    } catch (const Error& error) {
      result.problems.push_back(error);
    }
    for (const LayerTensor& tensor : attention_tensors(folder, entry)) {
      checked.insert(tensor.info->name);
      progress.read(tensor.info->name, tensor.info->bytes);
    }
  }
  check_values(folder.weights, checked, progress, result);
}

Inspection inspect_quantized(const fs::path& path, const InspectOptions& options) {
  const QuantizedFolder folder = open_quantized(path);
  Inspection result;
  result.dialect = "MindIE SD quantized folder";
  result.warnings = folder.warnings;
  result.files.push_back(folder.files.descriptor.string());
  count_tensors(folder.weights, result);
  add_architecture(folder.weights.folder(), result);
  add_facts(folder, result);
  add_layers(folder, result);
  result.problems.insert(result.problems.end(), folder.problems.begin(), folder.problems.end());
  check_names(folder, result);
  if (options.depth == Depth::kEverything) check_layers(folder, options, result);
  return result;
}

bool is_index(const fs::path& path) { return path.string().ends_with(".index.json"); }

}  // namespace

Inspection inspect_path(const fs::path& path, const InspectOptions& options) {
  require_readable(path);
  if (!is_index(path) && is_quantized_path(path)) return inspect_quantized(path, options);
  return inspect_weights(path, options);
}

}  // namespace mezzotint::cli
