// The two calls of the library.
//
//   Report r = export_quantized(WeightStore::open("FLUX.1-dev"), "flux-w8a8",
//                               {.algorithm = "w8a8_dynamic"}, ctx);       // float -> files
//   Report q = quantize(model.modules(), "flux-w8a8", {}, ctx);            // files -> fast model
//
// quantize() is all or nothing: when it throws, the model is as it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/attention.h"
#include "mezzotint/calibration.h"
#include "mezzotint/compat.h"
#include "mezzotint/context.h"
#include "mezzotint/export.h"
#include "mezzotint/linear.h"
#include "mezzotint/report.h"
#include "mezzotint/timestep.h"
#include "mezzotint/weights.h"

namespace mezzotint {

// The named slots of a model. Pointers are not owned and must outlive the calls that use them.
struct ModuleMap {
  std::vector<Linear*> linears{};
  std::vector<LinearGroup*> groups{};
  std::vector<Attention*> attentions{};
};

enum class Strictness : uint8_t { kStrict, kLenient };

struct QuantizeOptions {
  Strictness strictness = Strictness::kStrict;  // lenient: list instead of throw
  std::optional<int> rank{};
  // Of W8A8_TIMESTEP layers. Not given: what the descriptor says, else every step is dynamic.
  std::optional<TimestepPolicy> timestep_policy{};
  // kUpstream: its results, bit for bit where its operators are known, its dropped tensors and
  // ignored labels, each of which the report notes (docs/compatibility.md). Slow.
  Compat compat = Compat::kNone;
  // Of FP8 attention: softmax numerators times this become e4m3. 1 is upstream's; 448 keeps small
  // ones beside a large one (docs/numerics.md compares).
  float numerator_scale = 1.0f;
};

// Swaps the plans of `model` for those of a quantized folder or descriptor. Errors name layer,
// file, expected, found and the remedy: unknown algorithm, missing or misshapen tensor, entry that
// no module answers to (lenient: listed in the report), files of two different runs.
MZ_API Report quantize(const ModuleMap& model, const std::filesystem::path& descriptor,
                       const QuantizeOptions& options, const ExecContext& ctx);

struct Rule {
  std::string pattern;                // glob over layer names ('*' crosses dots) or "re:..."
  std::string algorithm;              // any case; "float" keeps
  std::string reason{};               // shown in the report for float
  std::vector<std::string> except{};  // patterns of layers that it does not apply to
};

// Attentions to be run quantized: rotations are written beside the linears.
struct AttentionRule {
  std::string algorithm;  // "fp8_dynamic", in any case
  std::string pattern{};  // over their names, as of Rule; empty: all that the preset knows
  int64_t head_dim = 0;   // 0: as the preset says; else the pattern may name any module
  std::vector<std::string> except{};
};

struct ExportProgress {
  std::string layer;
  int64_t bytes_done = 0;   // of the source, by this run
  int64_t bytes_total = 0;  // that this run had to do: less than all where it goes on with another
  double weight_sqnr_db = 0;
};

struct ExportOptions {
  std::string algorithm{};    // any case; for every layer no rule and no exclusion names
  std::vector<Rule> rules{};  // first match wins
  std::vector<AttentionRule> attentions{};  // first match wins; none: they stay float
  std::vector<std::string> exclude{};       // patterns; always win
  std::string preset = "auto";              // auto | none | NAME
  std::optional<int> rank{};                // write the _R suffix
  int64_t group_size = 0;                   // 0: the algorithm's default
  int64_t svd_rank = 0;                     // of low-rank branches, at most N and K; 0: 32
  int64_t max_shard_bytes = 0;              // 0: one file
  int64_t max_memory_bytes = 0;             // 0: any; a layer that needs more is an Error
  // Of several processes that export together, each with the same options but for `worker`, on one
  // file system: process 0 waits for the others' parts and writes the output of a single one.
  int worker = 0;
  int workers = 1;
  Compat compat = Compat::kNone;  // kUpstream: its exporter's rules for weights
  Calibration calibration{};      // for algorithms that need statistics, and for smoothing
  // Of W8A8_TIMESTEP layers, for the descriptor. Not given: from the statistics.
  std::optional<TimestepPolicy> timestep_policy{};
  bool output_errors = false;  // report them, of the layers that the statistics know
  bool overwrite = false;
  bool resume = false;
  bool dry_run = false;  // plan and report only
  bool estimate_time =
      false;  // of a dry run: quantize some rows of every kind, for seconds at most
  std::function<void(const ExportProgress&)> progress{};
};

// Quantizes every 2-D floating tensor P.weight with K >= 32 (or what rules say) and byte-copies
// every other tensor, one layer at a time. The output appears at the end or not at all.
MZ_API Report export_quantized(const WeightStore& source, const std::filesystem::path& out,
                               const ExportOptions& options, const ExecContext& ctx);

struct DequantizeOptions {
  std::function<void(const ExportProgress&)> progress{};
  bool overwrite = false;
};

// Writes a plain safetensors file with the source's names and dtypes. The weight is the matrix E
// with y = x E^T + b before activation quantization (smoothing and low rank folded in).
MZ_API Report dequantize(const std::filesystem::path& descriptor,
                         const std::filesystem::path& out_file, const DequantizeOptions& options,
                         const ExecContext& ctx);

}  // namespace mezzotint
