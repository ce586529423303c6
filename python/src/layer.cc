#include "layer.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "base/nearest.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "nn/linear_state.h"
#include "quant/algorithm.h"
#include "quant/quantized_folder.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// A descriptor may have any name; in a folder only the usual one tells it from config.json.
bool holds_descriptor(const fs::path& path) {
  if (!fs::is_directory(path)) {
    return path.extension() == ".json" && !path.string().ends_with(".index.json");
  }
  return std::ranges::any_of(fs::directory_iterator(path), [](const fs::path& file) {
    return file.extension() == ".json" &&
           file.filename().string().starts_with("quant_model_description");
  });
}

Linear float_layer(const WeightStore& store, const std::string& name) {
  std::optional<Tensor> bias;
  if (store.find(name + ".bias") != nullptr) bias = store.read(name + ".bias");
  return Linear::from_float(name, store.read(name + ".weight"), bias);
}

const LayerEntry& entry_of(const QuantizedFolder& folder, const std::string& name) {
  std::vector<std::string_view> names;
  for (const LayerEntry& entry : folder.layers) {
    if (entry.layer == name) return entry;
    names.push_back(entry.layer);
  }
  for (const auto& [layer, reason] : folder.kept) names.push_back(layer);
  throw Error(ErrorCode::kUsage, "the descriptor has no such layer",
              {.layer = name,
               .file = folder.files.descriptor.string(),
               .fix = did_you_mean(nearest_names(name, names))});
}

Linear quantized_layer(const fs::path& path, const std::string& name) {
  const QuantizedFolder folder = open_quantized(path);
  // What is wrong with other layers does not concern this one.
  for (const Error& problem : folder.problems) {
    if (problem.details().layer == name) throw problem;
  }
  if (folder.kept.contains(name)) return float_layer(folder.weights, name);
  const LinearParams params = read_layer(folder, entry_of(folder, name));
  return Linear(name, params.plan.n, params.plan.k, make_linear_state(params, active_isa()));
}

// Layers with scales of x, blocks or nibbles need more than LayerVectors carries.
void require_vectors_suffice(const AlgorithmRow& row, const std::string& name) {
  const FileContract& contract = *row.contract;
  const bool measured =
      contract.mode == ActivationMode::kFloat || contract.mode == ActivationMode::kDynamic;
  if (measured && contract.weight_element == Element::kInt8 && !row.parameters.low_rank) return;
  throw Error(ErrorCode::kUnsupported, "a packed layer of this algorithm needs its whole file",
              {.layer = name,
               .expected = "FLOAT, or int8 weights with one scale per row such as W8A8_DYNAMIC",
               .found = std::string(row.name),
               .fix = "load it with load_linear(folder, name)"});
}

}  // namespace

Linear load_layer(const fs::path& path, const std::string& name) {
  if (holds_descriptor(path)) return quantized_layer(path, name);
  return float_layer(WeightStore::open(path), name);
}

Linear layer_of_blob(const std::string& name, const std::string& algorithm, const Buffer& blob,
                     const LayerVectors& vectors) {
  const Tensor weight = unpack_weight(blob);
  const auto present = [](const Tensor& tensor) {
    return tensor.empty() ? std::nullopt : std::optional<Tensor>(tensor);
  };
  LinearState state;
  if (is_float_label(algorithm)) {
    state = *Linear::from_float(name, weight, present(vectors.bias)).state();
  } else {
    const auto tensor = [&](const std::string& full_name) -> std::optional<Tensor> {
      const std::string suffix = full_name.substr(name.size() + 1);
      if (suffix == "weight") return weight;
      if (suffix == "weight_scale") return present(vectors.weight_scale);
      if (suffix == "weight_offset") return present(vectors.weight_offset);
      if (suffix == "bias") return present(vectors.bias);
      if (suffix == "div.mul_scale") return present(vectors.mul_scale);
      return std::nullopt;
    };
    const AlgorithmRow& row = served_algorithm(algorithm, {.layer = name});
    require_vectors_suffice(row, name);
    state = *make_linear_state(
        read_layer_params(row, {.layer = name, .prefix = name, .file = "", .tensor = tensor}),
        active_isa());
  }
  state.blob = blob;
  const Linear linear(name, weight.dim(0), weight.dim(1),
                      std::make_shared<const LinearState>(std::move(state)));
  (void)linear.kernel(1);  // throws when no kernel of this processor reads the blob's layout
  return linear;
}

}  // namespace mezzotint
