#include "quant/quantized_folder.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "format/descriptor.h"
#include "format/mapped_file.h"
#include "quant/attention_file.h"
#include "quant/upstream_reader.h"

namespace mezzotint {
namespace {

constexpr std::string_view kSmoothedSuffix = ".linear";
std::string without_suffix(std::string_view text, std::string_view suffix) {
  return std::string(text.substr(0, text.size() - suffix.size()));
}

// The layer and prefix that a name P belongs to: P = X.linear only when X.div.mul_scale exists.
LayerEntry entry_of_prefix(std::string prefix, const WeightStore& weights) {
  LayerEntry entry;
  if (prefix.ends_with(kSmoothedSuffix)) {
    std::string layer = without_suffix(prefix, kSmoothedSuffix);
    if (weights.find(layer + ".div.mul_scale") != nullptr) {
      entry.layer = std::move(layer);
      entry.prefix = std::move(prefix);
      return entry;
    }
  }
  entry.layer = prefix;
  const bool smoothed = weights.find(prefix + ".div.mul_scale") != nullptr;
  entry.prefix = smoothed ? prefix + std::string(kSmoothedSuffix) : std::move(prefix);
  return entry;
}

LayerFile layer_file(const QuantizedFolder& folder, const LayerEntry& entry,
                     const ExpectedLinear& expected) {
  return {.layer = entry.layer,
          .prefix = entry.prefix,
          .file = folder.files.weights.string(),
          .tensor = [&folder](const std::string& name) -> std::optional<Tensor> {
            if (folder.weights.find(name) == nullptr) return std::nullopt;
            return folder.weights.read(name);
          },
          .dims = expected.dims,
          .bias = expected.bias};
}

// What the descriptor says of one layer.
struct Labels {
  LayerEntry entry;
  std::string first_key;
  std::string first_label;
  bool names_tensors = false;  // not only the layer as a whole
};

// Gathers the labels of tensors into layers.
class Gatherer {
 public:
  Gatherer(QuantizedFolder& folder, Compat compat) : folder_(folder), compat_(compat) {}

  void gather() {
    for (const auto& [key, label] : folder_.descriptor.labels) take(key, label);
    for (const std::string& layer : order_) finish(layers_.at(layer));
    for (const AttentionEntry& entry : attentions_) finish(entry);
  }

 private:
  void take(const std::string& key, const std::string& label) {
    if (is_upstream() && !decides_in_upstream(key)) return;
    if (is_upstream() ? label == "FLOAT" : is_float_label(label)) {
      take_float(key);
    } else if (key.ends_with(kAttentionSuffix)) {
      take_attention(key, label);
    } else {
      take_algorithm(key, label);
    }
  }

  bool is_upstream() const { return compat_ == Compat::kUpstream; }

  // It looks at the labels of weights, and of layers as a whole.
  bool decides_in_upstream(const std::string& key) const {
    return key.ends_with(".weight") || key.ends_with(kAttentionSuffix) ||
           folder_.weights.find(key) == nullptr;
  }

  void take_float(const std::string& key) {
    float_keys_.insert(key);
    if (key.ends_with(kAttentionSuffix)) {
      folder_.kept[without_suffix(key, kAttentionSuffix)] = "label FLOAT";
    }
    if (!key.ends_with(".weight")) return;
    const std::string layer = without_suffix(key, ".weight");
    const auto reason = folder_.descriptor.facts.find(facts::kKeptPrefix + layer);
    folder_.kept[layer] = reason == folder_.descriptor.facts.end() ? "label FLOAT" : reason->second;
  }

  void take_attention(const std::string& key, const std::string& label) {
    if (is_upstream() && upstream_reading(label) != UpstreamReading::kApplied) {
      take_unread(key, label);
      return;
    }
    const std::string layer = without_suffix(key, kAttentionSuffix);
    try {
      add({layer, &served_attention(label, place(layer, key))});
    } catch (const Error& error) {
      folder_.kept[layer] = fmt::format("label {} is not served", label);
      folder_.problems.push_back(error);
    }
  }

  void take_algorithm(const std::string& key, const std::string& label) {
    const AlgorithmRow* row = find_algorithm(label);
    if (is_upstream() && upstream_reading(label) != UpstreamReading::kApplied) {
      take_unread(key, label);
      return;
    }
    if (row == nullptr || row->status != AlgorithmStatus::kServed) {
      take_unserved(key, label);
      return;
    }
    std::optional<std::string> prefix = prefix_of(key, *row);
    const bool names_tensor = prefix.has_value();
    if (!names_tensor && folder_.weights.find(key) != nullptr) {
      ErrorDetails details = place(key, key);
      details.expected = fmt::format("a tensor of a {} layer", row->name);
      details.found = label;
      details.fix = "label the tensor FLOAT, or export again";
      folder_.problems.emplace_back(ErrorCode::kInput, "a label on a tensor it cannot describe",
                                    std::move(details));
      return;
    }
    if (row->attention != nullptr) {
      add({prefix.value_or(key), row});
      return;
    }
    LayerEntry entry = entry_of_prefix(prefix.value_or(key), folder_.weights);
    entry.algorithm = row;
    add(std::move(entry), key, label, names_tensor);
  }

  // P of the key P.suffix, by the longest suffix of the contract that fits.
  static std::optional<std::string> prefix_of(const std::string& key, const AlgorithmRow& row) {
    std::string_view best;
    std::span<const ParamSpec> others;
    if (row.alternative != nullptr) others = row.alternative->params;
    for (const std::span<const ParamSpec> params : {contract_tensors(row), others}) {
      for (const ParamSpec& spec : params) {
        const std::string_view suffix = spec.suffix;
        const bool fits = key.size() > suffix.size() + 1 && key.ends_with(suffix) &&
                          key[key.size() - suffix.size() - 1] == '.';
        if (fits && suffix.size() > best.size()) best = suffix;
      }
    }
    if (best.empty()) return std::nullopt;
    return key.substr(0, key.size() - best.size() - 1);
  }

  void add(LayerEntry entry, const std::string& key, const std::string& label, bool names_tensor) {
    const auto [it, is_new] = layers_.try_emplace(entry.layer);
    Labels& labels = it->second;
    if (is_new) {
      order_.push_back(entry.layer);
      labels = {.entry = std::move(entry), .first_key = key, .first_label = label};
    } else if (labels.entry.algorithm->canonical != entry.algorithm->canonical) {
      contradiction(labels, key, label);
    }
    labels.names_tensors = labels.names_tensors || names_tensor;
  }

  void add(AttentionEntry entry) {
    const auto same = [&](const AttentionEntry& other) { return other.layer == entry.layer; };
    if (std::ranges::none_of(attentions_, same)) attentions_.push_back(std::move(entry));
  }

  // One error per layer, not per tensor.
  void take_unserved(const std::string& key, const std::string& label) {
    const std::string layer = entry_of_prefix(key.substr(0, key.rfind('.')), folder_.weights).layer;
    if (!unserved_.insert(layer).second) return;
    folder_.kept[layer] = fmt::format("label {} is not served", label);
    try {
      served_algorithm(label, place(layer, key));
    } catch (const Error& error) {
      folder_.problems.push_back(error);
    }
  }

  void take_unread(const std::string& key, const std::string& label) {
    const std::string layer = entry_of_prefix(key.substr(0, key.rfind('.')), folder_.weights).layer;
    const bool named = upstream_reading(label) == UpstreamReading::kLeftFloat;
    folder_.kept[layer] = fmt::format("upstream {} {}", named ? "leaves float" : "ignores", label);
    ErrorDetails details = place(layer, key);
    details.found = label;
    folder_.problems.emplace_back(ErrorCode::kUnsupported,
                                  named ? "upstream leaves layers of this algorithm float"
                                        : "upstream ignores a label it does not know",
                                  std::move(details));
  }

  void contradiction(const Labels& labels, const std::string& key, const std::string& label) {
    ErrorDetails details = place(labels.entry.layer, key);
    details.expected = fmt::format("{} as for {}", labels.first_label, labels.first_key);
    details.found = label;
    details.fix = "give all tensors of a layer one label";
    folder_.problems.emplace_back(ErrorCode::kInput, "the labels of one layer contradict",
                                  std::move(details));
  }

  // FLOAT on the layer or on its weight excludes the layer, as upstream does; but a layer whose
  // other tensors carry an algorithm is a contradiction.
  void finish(const Labels& labels) {
    const LayerEntry& entry = labels.entry;
    const std::string weight = entry.prefix + ".weight";
    if (float_keys_.contains(entry.layer)) {
      folder_.kept[entry.layer] = "label FLOAT";
    } else if (!float_keys_.contains(weight)) {
      folder_.layers.push_back(entry);
      folder_.layers.back().contract =
          &contract_of(*entry.algorithm, layer_file(folder_, entry, {}));
    } else if (labels.names_tensors && !is_upstream()) {
      contradiction(labels, weight, "FLOAT");
    }
  }

  void finish(const AttentionEntry& entry) {
    if (float_keys_.contains(entry.layer)) {
      folder_.kept[entry.layer] = "label FLOAT";
    } else if (is_upstream() && hides_attention(entry.layer)) {
      folder_.kept[entry.layer] = "upstream reads the label of a tensor below it";
      ErrorDetails details = place(entry.layer, entry.layer + std::string(kAttentionSuffix));
      details.found = entry.algorithm->name;
      folder_.problems.emplace_back(ErrorCode::kUnsupported,
                                    "upstream loses this label to one of a tensor below it",
                                    std::move(details));
    } else {
      folder_.attentions.push_back(entry);
    }
  }

  // Upstream takes the first label of these for the module's own (quantize.py:32-40, 186-189).
  bool hides_attention(const std::string& layer) const {
    return std::ranges::any_of(
        std::array{".linear.weight", ".weight"}, [&](std::string_view suffix) {
          const std::string* label = folder_.descriptor.label(layer + std::string(suffix));
          if (label == nullptr) return false;
          return *label == "FLOAT" || upstream_reading(*label) != UpstreamReading::kIgnored;
        });
  }

  ErrorDetails place(std::string layer, std::string tensor) const {
    return {.layer = std::move(layer),
            .tensor = std::move(tensor),
            .file = folder_.files.descriptor.string()};
  }

  QuantizedFolder& folder_;
  Compat compat_;
  std::map<std::string, Labels> layers_;
  std::vector<std::string> order_;
  std::vector<AttentionEntry> attentions_;
  std::set<std::string> float_keys_;
  std::set<std::string> unserved_;
};

// A value that is no string under the name of a tensor: upstream ignores it, we do not.
void find_non_string_labels(QuantizedFolder& folder) {
  const nlohmann::json others = nlohmann::json::parse(folder.descriptor.other_keys);
  for (const auto& [key, value] : others.items()) {
    if (folder.weights.find(key) == nullptr && !key.ends_with(".weight")) continue;
    folder.problems.emplace_back(ErrorCode::kInput, "a label is not a string",
                                 ErrorDetails{.layer = {},
                                              .tensor = key,
                                              .file = folder.files.descriptor.string(),
                                              .expected = "the name of an algorithm, or FLOAT",
                                              .found = value.type_name(),
                                              .fix = {}});
  }
}

void check_run(const QuantizedFolder& folder) {
  const auto weights = folder.weights.metadata().find("mezzotint_run");
  const auto descriptor = folder.descriptor.facts.find(facts::kRun);
  if (weights == folder.weights.metadata().end()) return;
  if (descriptor == folder.descriptor.facts.end() || weights->second == descriptor->second) return;
  throw Error(ErrorCode::kInput, "descriptor and weights come from two different runs",
              {.file = folder.files.weights.string(),
               .expected = fmt::format("run {}, as in {}", descriptor->second,
                                       folder.files.descriptor.string()),
               .found = "run " + weights->second,
               .fix = "put the two files of one export together, or export again"});
}

}  // namespace

QuantizedFolder open_quantized(const std::filesystem::path& path, std::optional<int> rank,
                               Compat compat) {
  const bool is_upstream = compat == Compat::kUpstream;
  QuantizedFiles files = find_quantized_files(path, rank);
  if (is_upstream) check_upstream_files(path, files, rank);
  std::vector<std::string> overruled;
  Descriptor descriptor = read_descriptor(files.descriptor, is_upstream ? &overruled : nullptr);
  WeightStore weights = WeightStore::open(files.weights);
  QuantizedFolder folder = {.files = std::move(files),
                            .descriptor = std::move(descriptor),
                            .weights = std::move(weights),
                            .layers = {},
                            .attentions = {},
                            .kept = {},
                            .problems = {},
                            .warnings = {}};
  folder.warnings = folder.weights.warnings();
  for (const std::string& key : overruled) {
    folder.warnings.push_back(fmt::format("upstream takes the last of the values of \"{}\"", key));
  }
  if (MappedFile::open(folder.files.descriptor)->world_writable()) {
    folder.warnings.push_back("anyone may write " + folder.files.descriptor.string());
  }
  check_run(folder);
  Gatherer(folder, compat).gather();
  find_non_string_labels(folder);
  return folder;
}

void require_no_problems(const QuantizedFolder& folder) {
  if (!folder.problems.empty()) throw folder.problems.front();
}

LinearParams read_layer(const QuantizedFolder& folder, const LayerEntry& entry,
                        const ExpectedLinear& expected) {
  return read_layer_params(*entry.algorithm, layer_file(folder, entry, expected));
}

std::vector<LayerTensor> layer_tensors(const QuantizedFolder& folder, const LayerEntry& entry) {
  std::vector<LayerTensor> found;
  for (const ParamSpec& spec : entry.contract->params) {
    const TensorInfo* info = folder.weights.find(tensor_name(spec, entry.layer, entry.prefix));
    if (info == nullptr && spec.prefix == PrefixRule::kEither) {
      info = folder.weights.find(fmt::format("{}.{}", entry.prefix, spec.suffix));
    }
    if (info != nullptr) found.push_back({.spec = &spec, .info = info});
  }
  return found;
}

AttentionParams read_attention(const QuantizedFolder& folder, const AttentionEntry& entry,
                               int64_t head_dim) {
  LayerFile file = layer_file(folder, {.layer = entry.layer, .prefix = entry.layer}, {});
  file.dims.head_dim = head_dim;
  return read_attention_params(*entry.algorithm, file);
}

std::vector<LayerTensor> attention_tensors(const QuantizedFolder& folder,
                                           const AttentionEntry& entry) {
  std::vector<LayerTensor> found;
  for (const ParamSpec& spec : entry.algorithm->attention->params) {
    const TensorInfo* info = folder.weights.find(tensor_name(spec, entry.layer, entry.layer));
    if (info != nullptr) found.push_back({.spec = &spec, .info = info});
  }
  return found;
}

LayerDims stored_dims(const QuantizedFolder& folder, const LayerEntry& entry) {
  return stored_dims(entry.contract->params, layer_file(folder, entry, {}));
}

void release_layer(const QuantizedFolder& folder, const LayerEntry& entry) {
  for (const LayerTensor& tensor : layer_tensors(folder, entry)) {
    folder.weights.release(tensor.info->name);
  }
}

}  // namespace mezzotint
