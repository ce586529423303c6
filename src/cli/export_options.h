// The options of an export as they are typed, for the verbs that plan one: what is not typed is not
// there, so that a recipe may say it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mezzotint/quantize.h"

namespace CLI {
class App;
}

namespace mezzotint::cli {

struct TypedOptions {
  std::optional<std::string> algorithm;
  std::vector<std::string> rules;       // PATTERN=ALGO
  std::vector<std::string> attentions;  // ALGO[:PATTERN[:HEAD_DIM]]
  std::vector<std::string> exclude;
  std::optional<std::string> preset;
  std::optional<int64_t> group_size;
  std::optional<int64_t> svd_rank;
  std::optional<std::string> max_shard_size;
  std::optional<std::string> max_memory;
  std::optional<std::string> statistics;
  std::optional<RangeRule> range;
  std::optional<Smoothing> smoothing;
  std::optional<ErrorFeedback> feedback;
  std::optional<FeedbackOrder> order;
  std::optional<double> static_tolerance;
};

void add_keeping(CLI::App& app,
                 TypedOptions& typed);  // --exclude, --preset, --group-size, --svd-rank
void add_layer_choice(CLI::App& app, TypedOptions& typed);  // --algo, --rule
void add_attentions(CLI::App& app, TypedOptions& typed);    // --fa
// --stats, --range, --smooth, --gptq, --act-order, --static-tolerance
void add_calibration(CLI::App& app, TypedOptions& typed);

// What is typed over what `options` say: rules before theirs, exclusions beside them.
ExportOptions over(ExportOptions options, const TypedOptions& typed);

// Error(kUsage) where only statistics would give what is typed or said a meaning, and there are
// none.
void check_statistics(const TypedOptions& typed, const Calibration& how);

}  // namespace mezzotint::cli
