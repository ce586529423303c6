// The algorithms of the format: one row per descriptor label, aliases included.
//
//   const AlgorithmRow* row = find_algorithm("w8a8_dynamic");       // names in any case
//   LinearParams p = read_layer_params(*row, layer_file);           // files -> memory, checked
//   LayerTensors t = write_layer_params(*row, float_layer, ctx);    // float weights -> files
//
// algorithms.inc is the only place where an algorithm is named; a file contract is one file under
// algorithms/. Everything here is immutable and thread-safe. docs/adding-an-algorithm.md walks
// through a contract.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "mezzotint/weights.h"
#include "quant/param_spec.h"
#include "quant/plan.h"

namespace mezzotint {

struct FileContract;

enum class AlgorithmStatus : uint8_t {
  kServed,   // read, run and written
  kPlanned,  // a name of the format that this version does not serve yet: an error, never float
  kForeign,  // a label other tools write, which is no algorithm of the format
};

// What distinguishes the algorithms that share a file contract.
struct AlgorithmParameters {
  ActivationMode activation = ActivationMode::kFloat;
  Element activation_element = Element::kF32;
  Element weight_element = Element::kInt8;
};

struct AlgorithmRow {
  std::string_view name;       // the label as it stands in a descriptor
  std::string_view canonical;  // the label we write; differs from name for an alias
  AlgorithmStatus status;
  const FileContract* contract;  // null unless served
  AlgorithmParameters parameters;
  std::string_view summary;  // one line for list-algorithms and docs
};

// A float layer to be written. weight:[n,k] and bias:[n] of any float dtype.
struct FloatLayer {
  std::string name;
  Tensor weight;
  std::optional<Tensor> bias;
};

struct NamedTensor {
  std::string name;
  std::string label;  // "FLOAT" or the algorithm's
  Tensor tensor;
};
using LayerTensors = std::vector<NamedTensor>;

struct FileContract {
  std::string_view name;
  std::span<const ParamSpec> params;  // the first one is the weight
  LinearParams (*read)(const AlgorithmRow& row, const CheckedTensors& tensors);
  // Values only: `tensors` comes allocated as plan_layer_tensors says.
  void (*write)(const AlgorithmRow& row, const FloatLayer& layer, LayerTensors& tensors,
                const ExecContext& ctx);
};

std::span<const AlgorithmRow> algorithm_rows();
const AlgorithmRow* find_algorithm(std::string_view name);  // any case; nullptr when unknown

// A served row, or Error(kUnsupported) that lists the nearest names. `details` names the place.
const AlgorithmRow& served_algorithm(std::string_view name, ErrorDetails details = {});

// True for "FLOAT" in any case: the label, and the rule, that keeps a layer as it is.
bool is_float_label(std::string_view label);

LinearParams read_layer_params(const AlgorithmRow& row, const LayerFile& file);

// Names, labels, dtypes and shapes of what write_layer_params gives, from the shape alone.
struct PlannedTensor {
  TensorPlan tensor;
  std::string label;
};
enum class HasBias : uint8_t { kNo, kYes };
std::vector<PlannedTensor> plan_layer_tensors(const AlgorithmRow& row, std::string_view layer,
                                              const LayerDims& dims, HasBias has_bias);

// Quantizes on the threads of ctx; the same bytes for any number of them.
LayerTensors write_layer_params(const AlgorithmRow& row, const FloatLayer& layer,
                                const ExecContext& ctx);

// The tables of docs/algorithms.md: algorithms, then the tensors of every contract.
std::string algorithms_markdown();

}  // namespace mezzotint
