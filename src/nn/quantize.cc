// quantize(): a quantized folder into a model, all or nothing.
#include "mezzotint/quantize.h"

#include <exception>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/cpu_features.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/parallel_for.h"
#include "mezzotint/error.h"
#include "nn/linear_state.h"
#include "quant/quantized_folder.h"
#include "quant/upstream_reader.h"

namespace mezzotint {
namespace {

using LinearsByName = std::map<std::string, Linear*, std::less<>>;

// One linear and what it is going to hold.
struct Swap {
  Linear* linear = nullptr;
  LayerEntry entry;
  std::shared_ptr<const LinearState> state;
  std::string left_out{};  // names of tensors that upstream does not compute with
};

LinearsByName by_name(const ModuleMap& model) {
  LinearsByName linears;
  for (Linear* linear : model.linears) {
    if (linears.emplace(linear->name(), linear).second) continue;
    throw Error(ErrorCode::kUsage, "two linears of the model have one name",
                {.layer = linear->name(), .fix = "give every linear its own dotted name"});
  }
  return linears;
}

// A layer's entry stands under X.linear without X.div.mul_scale: say so instead of guessing.
std::string unmatched_fix(const LinearsByName& linears, const std::string& layer) {
  constexpr std::string_view kSmoothed = ".linear";
  if (layer.ends_with(kSmoothed)) {
    const std::string parent = layer.substr(0, layer.size() - kSmoothed.size());
    if (linears.contains(parent)) {
      return fmt::format("{}.div.mul_scale is missing from the weight file: export again", parent);
    }
  }
  std::vector<std::string_view> names;
  for (const auto& [name, linear] : linears) names.push_back(name);
  const std::string nearest = did_you_mean(nearest_names(layer, names));
  return nearest.empty() ? "the files belong to another model"
                         : nearest + " Or the files belong to another model";
}

Error unmatched_entry(const LinearsByName& linears, const QuantizedFolder& folder,
                      const LayerEntry& entry) {
  return Error(ErrorCode::kStrict, "no linear of the model answers to an entry of the descriptor",
               {.layer = entry.layer,
                .file = folder.files.descriptor.string(),
                .expected = fmt::format("a linear to hold {}", entry.algorithm->name),
                .found = "none of this name",
                .fix = unmatched_fix(linears, entry.layer)});
}

// Throws in strict mode; else the line that the report shows. Upstream would say nothing.
void forgive(const Error& error, const QuantizeOptions& options, const ExecContext& ctx,
             Report& report) {
  const bool upstream = options.compat == Compat::kUpstream;
  if (options.strictness == Strictness::kStrict && !upstream) throw error;
  log(ctx.log(), LogLevel::kWarn, error.what());
  (upstream ? report.notes : report.unmatched).emplace_back(error.what());
}

// Labels of X.linear are, for upstream, those of X, whose tensors it then misses.
bool is_missing_smoothing(const LinearsByName& linears, const std::string& layer) {
  constexpr std::string_view kSmoothed = ".linear";
  return layer.ends_with(kSmoothed) &&
         linears.contains(layer.substr(0, layer.size() - kSmoothed.size()));
}

std::vector<Swap> match(const LinearsByName& linears, const QuantizedFolder& folder,
                        const QuantizeOptions& options, const ExecContext& ctx, Report& report) {
  for (const Error& problem : folder.problems) forgive(problem, options, ctx, report);
  std::vector<Swap> swaps;
  for (const LayerEntry& entry : folder.layers) {
    const auto it = linears.find(entry.layer);
    if (it == linears.end()) {
      const Error error = unmatched_entry(linears, folder, entry);
      const bool upstream = options.compat == Compat::kUpstream;
      if (upstream && is_missing_smoothing(linears, entry.layer)) throw error;
      forgive(error, options, ctx, report);
    } else {
      swaps.push_back({.linear = it->second, .entry = entry, .state = nullptr});
    }
  }
  return swaps;
}

BiasRule bias_rule(const Linear& linear) {
  if (linear.state() == nullptr) return BiasRule::kAsStored;
  return linear.has_bias() ? BiasRule::kRequired : BiasRule::kUnwanted;
}

TimestepPolicy policy_of(const QuantizedFolder& folder, const QuantizeOptions& options) {
  if (options.timestep_policy) return *options.timestep_policy;
  const auto stored = folder.descriptor.facts.find(facts::kTimestepPolicy);
  if (stored == folder.descriptor.facts.end()) return {};
  try {
    return TimestepPolicy::parse(stored->second);
  } catch (const Error& error) {
    ErrorDetails details = error.details();
    details.file = folder.files.descriptor.string();
    details.fix = "correct metadata.mezzotint.timestep_policy, or give a policy of your own";
    throw Error(error.code(), "the descriptor's timestep policy cannot be read",
                std::move(details));
  }
}

// How a layer is built, whatever layer it is.
struct BuildOptions {
  TimestepPolicy policy;
  Compat compat = Compat::kNone;
  Isa isa = active_isa();
};

void build(const QuantizedFolder& folder, const BuildOptions& options, Swap& swap) {
  const Linear& linear = *swap.linear;
  const ExpectedLinear expected = {.dims = {.n = linear.out_features(), .k = linear.in_features()},
                                   .bias = bias_rule(linear)};
  LinearParams params = read_layer(folder, swap.entry, expected);
  if (options.compat == Compat::kUpstream) swap.left_out = leave_out_like_upstream(params);
  swap.state = make_linear_state(params, options.isa, options.policy);
  release_layer(folder, swap.entry);
}

// Packs on all threads; the error of the first layer, in the descriptor's order, wins.
void build_all(const QuantizedFolder& folder, const BuildOptions& options, std::vector<Swap>& swaps,
               const ExecContext& ctx) {
  std::vector<std::exception_ptr> errors(swaps.size());
  parallel_for(ctx, static_cast<int64_t>(swaps.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      try {
        build(folder, options, swaps[static_cast<size_t>(i)]);
      } catch (...) {
        errors[static_cast<size_t>(i)] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

std::string kept_reason(const QuantizedFolder& folder, const std::string& layer) {
  const auto it = folder.kept.find(layer);
  return it == folder.kept.end() ? "not in the descriptor" : it->second;
}

void note_left_out(const std::vector<Swap>& swaps, Report& report) {
  for (const Swap& swap : swaps) {
    if (swap.left_out.empty()) continue;
    report.notes.push_back(
        fmt::format("{}: left out, as upstream does: {}", swap.entry.layer, swap.left_out));
  }
}

void note_unwanted_biases(const QuantizedFolder& folder, const std::vector<Swap>& swaps,
                          Report& report) {
  for (const Swap& swap : swaps) {
    const bool stored = folder.weights.find(swap.entry.prefix + ".bias") != nullptr;
    if (!stored || swap.state->plan.has_bias || swap.linear->has_bias()) continue;
    report.notes.push_back(fmt::format(
        "{}: the file's bias is left aside because the model's layer has none", swap.entry.layer));
  }
}

LayerReport row_of(const Linear& linear, const Swap* swap, const QuantizedFolder& folder) {
  Linear after = linear;
  if (swap != nullptr) after.set_state(swap->state);
  return {.name = linear.name(),
          .algorithm = std::string(after.algorithm()),
          .reason = swap == nullptr ? kept_reason(folder, linear.name()) : std::string(),
          .out_features = linear.out_features(),
          .in_features = linear.in_features(),
          .bytes_before = linear.resident_bytes(),
          .bytes_after = after.resident_bytes()};
}

// Also proves that every new state fits its linear.
void add_rows(const ModuleMap& model, const QuantizedFolder& folder, const std::vector<Swap>& swaps,
              Report& report) {
  std::map<const Linear*, const Swap*> swap_of;
  for (const Swap& swap : swaps) swap_of[swap.linear] = &swap;
  for (const Linear* linear : model.linears) {
    const auto it = swap_of.find(linear);
    report.layers.push_back(row_of(*linear, it == swap_of.end() ? nullptr : it->second, folder));
    report.bytes_before += report.layers.back().bytes_before;
    report.bytes_after += report.layers.back().bytes_after;
  }
}

}  // namespace

Report quantize(const ModuleMap& model, const std::filesystem::path& descriptor,
                const QuantizeOptions& options, const ExecContext& ctx) {
  const QuantizedFolder folder = open_quantized(descriptor, options.rank, options.compat);
  Report report;
  report.notes = folder.warnings;
  std::vector<Swap> swaps = match(by_name(model), folder, options, ctx, report);
  build_all(folder, {.policy = policy_of(folder, options), .compat = options.compat}, swaps, ctx);
  note_unwanted_biases(folder, swaps, report);
  note_left_out(swaps, report);
  add_rows(model, folder, swaps, report);
  // Nothing throws from here on.
  for (Swap& swap : swaps) swap.linear->set_state(std::move(swap.state));
  return report;
}

}  // namespace mezzotint
