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
#include "nn/attention_state.h"
#include "nn/linear_state.h"
#include "quant/quantized_folder.h"
#include "quant/upstream_reader.h"

namespace mezzotint {
namespace {

using LinearsByName = std::map<std::string, Linear*, std::less<>>;
using AttentionsByName = std::map<std::string, Attention*, std::less<>>;

// One linear and what it is going to hold.
struct Swap {
  Linear* linear = nullptr;
  LayerEntry entry;
  std::shared_ptr<const LinearState> state;
  std::string left_out{};  // names of tensors that upstream does not compute with
};

struct AttentionSwap {
  Attention* attention = nullptr;
  AttentionEntry entry;
  std::shared_ptr<const AttentionState> state;
};

struct Swaps {
  std::vector<Swap> linears;
  std::vector<AttentionSwap> attentions;
};

template <typename Slot>
std::map<std::string, Slot*, std::less<>> by_name(const std::vector<Slot*>& slots,
                                                  std::string_view kind) {
  std::map<std::string, Slot*, std::less<>> named;
  for (Slot* slot : slots) {
    if (named.emplace(slot->name(), slot).second) continue;
    throw Error(
        ErrorCode::kUsage, fmt::format("two {}s of the model have one name", kind),
        {.layer = slot->name(), .fix = fmt::format("give every {} its own dotted name", kind)});
  }
  return named;
}

std::string nearest_or_other_model(const std::string& layer,
                                   const std::vector<std::string_view>& names) {
  const std::string nearest = did_you_mean(nearest_names(layer, names));
  return nearest.empty() ? "the files belong to another model"
                         : nearest + " Or the files belong to another model";
}

std::vector<std::string_view> names_of(const auto& slots) {
  std::vector<std::string_view> names;
  for (const auto& [name, slot] : slots) names.push_back(name);
  return names;
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
  return nearest_or_other_model(layer, names_of(linears));
}

Error unmatched_entry(const AttentionsByName& attentions, const QuantizedFolder& folder,
                      const AttentionEntry& entry) {
  const std::string fix = attentions.empty()
                              ? "the model has no slots of attention: export without --fa"
                              : nearest_or_other_model(entry.layer, names_of(attentions));
  return Error(ErrorCode::kStrict,
               "no attention of the model answers to an entry of the descriptor",
               {.layer = entry.layer,
                .file = folder.files.descriptor.string(),
                .expected = fmt::format("an attention to hold {}", entry.algorithm->name),
                .found = "none of this name",
                .fix = fix});
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

std::vector<AttentionSwap> match(const AttentionsByName& attentions, const QuantizedFolder& folder,
                                 const QuantizeOptions& options, const ExecContext& ctx,
                                 Report& report) {
  std::vector<AttentionSwap> swaps;
  for (const AttentionEntry& entry : folder.attentions) {
    const auto it = attentions.find(entry.layer);
    if (it == attentions.end()) {
      forgive(unmatched_entry(attentions, folder, entry), options, ctx, report);
    } else {
      swaps.push_back({.attention = it->second, .entry = entry, .state = nullptr});
    }
  }
  return swaps;
}

Swaps match(const ModuleMap& model, const QuantizedFolder& folder, const QuantizeOptions& options,
            const ExecContext& ctx, Report& report) {
  for (const Error& problem : folder.problems) forgive(problem, options, ctx, report);
  const LinearsByName linears = by_name(model.linears, "linear");
  const AttentionsByName attentions = by_name(model.attentions, "attention");
  return {.linears = match(linears, folder, options, ctx, report),
          .attentions = match(attentions, folder, options, ctx, report)};
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
  float numerator_scale = 1.0f;
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

void build(const QuantizedFolder& folder, const BuildOptions& options, AttentionSwap& swap) {
  const AttentionParams params =
      read_attention(folder, swap.entry, swap.attention->shape().head_dim);
  swap.state =
      make_fp8_attention_state(params.q_rot, params.k_rot, options.numerator_scale, options.isa);
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

LayerReport row_of(const Attention& attention, const AttentionSwap* swap,
                   const QuantizedFolder& folder) {
  Attention after = attention;
  if (swap != nullptr) after.set_state(swap->state);
  return {.name = attention.name(),
          .algorithm = std::string(after.algorithm()),
          .reason = swap == nullptr ? kept_reason(folder, attention.name()) : std::string(),
          .out_features = attention.shape().head_dim,
          .in_features = attention.shape().head_dim,
          .bytes_before = attention.resident_bytes(),
          .bytes_after = after.resident_bytes()};
}

template <typename Slot, typename SlotSwap>
void add_rows(const std::vector<Slot*>& slots,
              const std::map<const Slot*, const SlotSwap*>& swap_of, const QuantizedFolder& folder,
              Report& report) {
  for (const Slot* slot : slots) {
    const auto it = swap_of.find(slot);
    report.layers.push_back(row_of(*slot, it == swap_of.end() ? nullptr : it->second, folder));
    report.bytes_before += report.layers.back().bytes_before;
    report.bytes_after += report.layers.back().bytes_after;
  }
}

// Also proves that every new state fits its linear.
// Attentions are float as a rule: listed when the files hold one that is not.
void add_rows(const ModuleMap& model, const QuantizedFolder& folder, const Swaps& swaps,
              Report& report) {
  std::map<const Linear*, const Swap*> linears;
  for (const Swap& swap : swaps.linears) linears[swap.linear] = &swap;
  add_rows(model.linears, linears, folder, report);
  if (folder.attentions.empty()) return;
  std::map<const Attention*, const AttentionSwap*> attentions;
  for (const AttentionSwap& swap : swaps.attentions) attentions[swap.attention] = &swap;
  add_rows(model.attentions, attentions, folder, report);
}

}  // namespace

Report quantize(const ModuleMap& model, const std::filesystem::path& descriptor,
                const QuantizeOptions& options, const ExecContext& ctx) {
  const QuantizedFolder folder = open_quantized(descriptor, options.rank, options.compat);
  Report report;
  report.notes = folder.warnings;
  for (const std::string& warning : folder.warnings) log(ctx.log(), LogLevel::kWarn, warning);
  Swaps swaps = match(model, folder, options, ctx, report);
  const BuildOptions build_options = {.policy = policy_of(folder, options),
                                      .compat = options.compat,
                                      .numerator_scale = options.numerator_scale};
  build_all(folder, build_options, swaps.linears, ctx);
  for (AttentionSwap& swap : swaps.attentions) build(folder, build_options, swap);
  note_unwanted_biases(folder, swaps.linears, report);
  note_left_out(swaps.linears, report);
  add_rows(model, folder, swaps, report);
  // Nothing throws from here on.
  for (Swap& swap : swaps.linears) swap.linear->set_state(std::move(swap.state));
  for (AttentionSwap& swap : swaps.attentions) swap.attention->set_state(std::move(swap.state));
  return report;
}

}  // namespace mezzotint
