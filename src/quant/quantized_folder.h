// A quantized folder, opened: descriptor and weights, with the labels of tensors gathered into
// layers. quantize(), dequantize() and `inspect` all read through it.
//
//   QuantizedFolder folder = open_quantized("flux-w8a8");
//   for (const LayerEntry& entry : folder.layers) LinearParams p = read_layer(folder, entry);
//
// Read-only and thread-safe once opened.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/compat.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"

namespace mezzotint {

// One linear that the descriptor gives an algorithm this version serves.
struct LayerEntry {
  std::string layer;   // X: the name of the model's module
  std::string prefix;  // P: X, or X.linear when the file holds X.div.mul_scale
  const AlgorithmRow* algorithm = nullptr;
  const FileContract* contract = nullptr;  // of the algorithm's, the one its tensors follow
};

// One attention that the descriptor gives an algorithm this version serves.
struct AttentionEntry {
  std::string layer;  // A
  const AlgorithmRow* algorithm = nullptr;
};

struct QuantizedFolder {
  QuantizedFiles files;
  Descriptor descriptor;
  WeightStore weights;
  std::vector<LayerEntry> layers;           // in the descriptor's order
  std::vector<AttentionEntry> attentions;   // likewise
  std::map<std::string, std::string> kept;  // layer or attention -> why its label is FLOAT
  // Entries that are understood but not served, or not understood. Whoever goes on without them
  // must say so.
  std::vector<Error> problems;
  std::vector<std::string> warnings;  // of the files: anyone may write one
};

// Throws Error(kInput) when descriptor and weights come from two different runs. With kUpstream the
// labels are gathered as upstream's loader does, and its checks of the files hold.
QuantizedFolder open_quantized(const std::filesystem::path& path,
                               std::optional<int> rank = std::nullopt,
                               Compat compat = Compat::kNone);

// Throws the first problem, if any.
void require_no_problems(const QuantizedFolder& folder);

struct ExpectedLinear {
  LayerDims dims{};  // {0,0}: as stored
  BiasRule bias = BiasRule::kAsStored;
};
LinearParams read_layer(const QuantizedFolder& folder, const LayerEntry& entry,
                        const ExpectedLinear& expected = {});

// Every tensor of the layer that the file holds.
struct LayerTensor {
  const ParamSpec* spec = nullptr;
  const TensorInfo* info = nullptr;
};
std::vector<LayerTensor> layer_tensors(const QuantizedFolder& folder, const LayerEntry& entry);

// `head_dim` of the model's slot; 0: as stored.
AttentionParams read_attention(const QuantizedFolder& folder, const AttentionEntry& entry,
                               int64_t head_dim = 0);
std::vector<LayerTensor> attention_tensors(const QuantizedFolder& folder,
                                           const AttentionEntry& entry);

LayerDims stored_dims(const QuantizedFolder& folder, const LayerEntry& entry);

// Gives back the pages of a layer's tensors.
void release_layer(const QuantizedFolder& folder, const LayerEntry& entry);

// Keys of Descriptor::facts (metadata.mezzotint), one place for writer and readers.
namespace facts {
inline constexpr const char* kVersion = "version";
inline constexpr const char* kRun = "run";
inline constexpr const char* kPreset = "preset";
inline constexpr const char* kCompat = "compat";  // "upstream": its exporter's rules
inline constexpr const char* kWeightDtype = "source_weight_dtype";   // of quantized weights
inline constexpr const char* kBiasDtype = "source_bias_dtype";       // of their biases
inline constexpr const char* kDtypePrefix = "source_dtype:";         // + tensor: an exception
inline constexpr const char* kStaticTolerance = "static_tolerance";  // that the policy came from
inline constexpr const char* kTimestepPolicy = "timestep_policy";    // TimestepPolicy::text()
inline constexpr const char* kStatistics = "statistics";             // run id of their file
inline constexpr const char* kCalibration = "calibration";           // how they were used
inline constexpr const char* kKeptPrefix = "kept:";                  // + layer: why it is float
}  // namespace facts

}  // namespace mezzotint
