// The algorithms of the format: one row per descriptor label, aliases included.
//
//   const AlgorithmRow* row = find_algorithm("w8a8_dynamic");       // names in any case
//   LinearParams p = read_layer_params(*row, layer_file);           // files -> memory, checked
//   LayerTensors t = write_layer_params(*row, float_layer, {}, ctx);  // float weights -> files
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
struct AttentionContract;

enum class AlgorithmStatus : uint8_t {
  kServed,   // read, run and written
  kPlanned,  // a name of the format that this version does not serve yet: an error, never float
  kForeign,  // a label other tools write, which is no algorithm of the format
};

// How codes are chosen once activations are known.
enum class Solver : uint8_t {
  kNearest,
  kAwq,   // smoothing by mean magnitudes, scales that clip; asymmetric
  kGptq,  // error feedback
};

// How long to look for scales of MX weights: an export from weights alone is as fast as the disk.
enum class ScaleSearch : uint8_t { kQuick, kThorough };

// What distinguishes the algorithms that share a file contract: how we write them.
struct AlgorithmParameters {
  int64_t group = 0;  // elements of k per weight scale; 0: one scale per row
  Granularity weights = Granularity::kPerChannel;  // or kPerTensor: one scale for all rows
  bool needs_statistics = false;                   // activations decide: refused without --stats
  bool low_rank = false;                           // files must hold the low-rank factors
  Solver solver = Solver::kNearest;
  Compat compat = Compat::kNone;             // WriteOptions::compat
  ScaleSearch scales = ScaleSearch::kQuick;  // kThorough with statistics

  bool operator==(const AlgorithmParameters&) const = default;
};

struct AlgorithmRow {
  std::string_view name;       // the label as it stands in a descriptor
  std::string_view canonical;  // the label we write; differs from name for an alias
  AlgorithmStatus status;
  const FileContract* contract;     // what we write; null unless served, and of attentions
  const FileContract* alternative;  // what a file may hold instead, or null (contract_of)
  AlgorithmParameters parameters;
  std::string_view summary;            // one line for list-algorithms and docs
  const AttentionContract* attention;  // null for linears
};

// One float linear of a source file.
struct FloatLayer {
  std::string name;
  Tensor weight;  // [n,k] F32, BF16, F16 or F64
  std::optional<Tensor> bias;
};

struct NamedTensor {
  std::string name;
  std::string label;  // "FLOAT" or the algorithm's
  Tensor tensor;
};
using LayerTensors = std::vector<NamedTensor>;

// The tensors of an attention in a file (attention_file.h).
struct AttentionContract {
  std::string_view name;
  std::span<const ParamSpec> params;
  int64_t max_head_dim = 0;
  AttentionParams (*make)(int64_t head_dim) = nullptr;  // what we write
};

// The tensors of a layer in a file, and how they are run.
struct FileContract {
  std::string_view name;
  std::span<const ParamSpec> params;  // the first one is the weight
  ActivationMode mode = ActivationMode::kFloat;
  QuantScheme activation{};  // of the codes of x
  Element weight_element = Element::kInt8;
  // Codes and scales of the weight into `params`, whose dims are in its plan. The weight is finite;
  // of MX blocks without compat it need not be: those that are not have the scale NaN.
  void (*quantize)(const Tensor& weight, const AlgorithmParameters& how, const LayerDims& dims,
                   LinearParams& params, const ExecContext& ctx) = nullptr;
};

std::span<const AlgorithmRow> algorithm_rows();
const AlgorithmRow* find_algorithm(std::string_view name);  // any case; nullptr when unknown

// A row that serves linears, or Error(kUnsupported) that lists the nearest names. `details` names
// the place. Of attentions: served_attention (attention_file.h).
const AlgorithmRow& served_algorithm(std::string_view name, ErrorDetails details = {});

// True for "FLOAT" in any case: the label, and the rule, that keeps a layer as it is.
bool is_float_label(std::string_view label);

// Of linears and of attentions; "" and none for rows that are not served.
std::string_view contract_name(const AlgorithmRow& row);
std::span<const ParamSpec> contract_tensors(const AlgorithmRow& row);

// The contract that this layer's tensors follow: of a row that has two, the static one where the
// file holds an input_scale, the dynamic one where it does not.
const FileContract& contract_of(const AlgorithmRow& row, const LayerFile& file);

// Of a tensor that the contract names; the longest suffix counts.
const ParamSpec& spec_of(const FileContract& contract, std::string_view name);

// Throws Error(kUnsupported) where codes of x times codes of w are summed over more than
// kIntegerSumMaxK. Layers are read and planned through it; other algorithms know no longest k.
void require_exact_sums(const AlgorithmRow& row, const FileContract& contract, int64_t k,
                        ErrorDetails details);

LinearParams read_layer_params(const AlgorithmRow& row, const LayerFile& file);

// What params that hold these tensors do.
LinearPlan plan_of(const FileContract& contract, const LinearParams& params, const LayerDims& dims);

class InputCalibration;

// Whether files hold X.div.mul_scale, and the layer's other tensors stand below X.linear.
enum class Smoothed : uint8_t { kNo, kYes };
inline constexpr std::string_view kSmoothedSuffix = ".linear";

// How a float layer is written.
struct WriteOptions {
  int64_t group_size = 0;  // 0: the algorithm's own
  int64_t rank = kDefaultRank;
  Compat compat = Compat::kNone;      // kUpstream: codes, scales and int4 form as its exporter's
  Smoothed smoothed = Smoothed::kNo;  // kYes: by the multipliers of `calibration`
  int64_t steps = 0;                  // of layers with scales per step
  InputCalibration* calibration = nullptr;  // of the layer's input (input_calibration.h), or none

  static constexpr int64_t kDefaultRank = 32;
};

bool has_groups(const AlgorithmRow& row);  // whether group_size means anything
// Whether weights are MX blocks: groups of 32 that nobody chooses, with scales of powers of two.
bool has_mx_blocks(const FileContract& contract);

// Groups must divide k, else there is one scale per row; the rank is at most n and k.
LayerDims written_dims(const AlgorithmRow& row, int64_t n, int64_t k, const WriteOptions& options);

// Names, labels, dtypes and shapes of what write_layer_params gives, from the shape alone.
struct PlannedTensor {
  TensorPlan tensor;
  std::string label;
};
enum class HasBias : uint8_t { kNo, kYes };
std::vector<PlannedTensor> plan_layer_tensors(const AlgorithmRow& row, std::string_view layer,
                                              const LayerDims& dims, HasBias has_bias,
                                              Compat compat = Compat::kNone,
                                              Smoothed smoothed = Smoothed::kNo);

// (write_layer.cc) Quantizes on the threads of ctx; the same bytes for any number of them. Throws
// Error(kUsage) for an algorithm that needs statistics.
LayerTensors write_layer_params(const AlgorithmRow& row, const FloatLayer& layer,
                                const WriteOptions& options, const ExecContext& ctx);

// The tensors of a layer that was read, in the names, dtypes and shapes that `file` holds: the same
// bytes.
LayerTensors rewrite_layer_params(const AlgorithmRow& row, const LinearParams& params,
                                  const LayerFile& file);
// The same in the names, dtypes and shapes of a file that is not at hand.
LayerTensors rewrite_layer_params(const AlgorithmRow& row, const LinearParams& params,
                                  std::span<const TensorPlan> forms);

// Throws Error(kUsage), naming what to do, when the algorithm needs statistics and there are none.
enum class HasStatistics : uint8_t { kNo, kYes };
void require_writable(const AlgorithmRow& row, HasStatistics statistics, ErrorDetails details = {});

// The tables of docs/algorithms.md: algorithms, then the tensors of every contract.
std::string algorithms_markdown();

}  // namespace mezzotint
