#include "collect/collector.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "collect/attention_observer.h"
#include "collect/input_observer.h"
#include "collect/step_check.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

struct NamedInput {
  std::string name;
  std::vector<std::string> members;
  int64_t k = 0;
};

// Groups, and the linears that belong to none; by name.
std::vector<NamedInput> inputs_of(const ModuleMap& model) {
  std::vector<NamedInput> inputs;
  std::set<const Linear*> grouped;
  for (const LinearGroup* group : model.groups) {
    NamedInput input = {.name = group->name, .members = {}, .k = 0};
    for (const Linear* member : group->members) {
      input.members.push_back(member->name());
      input.k = member->in_features();
      grouped.insert(member);
    }
    inputs.push_back(std::move(input));
  }
  for (const Linear* linear : model.linears) {
    if (grouped.contains(linear)) continue;
    inputs.push_back(
        {.name = linear->name(), .members = {linear->name()}, .k = linear->in_features()});
  }
  std::ranges::sort(inputs, {}, &NamedInput::name);
  return inputs;
}

bool matches(const NamePattern& pattern, const NamedInput& input) {
  return pattern.matches(input.name) ||
         std::ranges::any_of(input.members,
                             [&](const std::string& m) { return pattern.matches(m); });
}

// The names of the inputs that get a Gram matrix.
std::set<std::string> gram_inputs(const std::vector<NamedInput>& inputs,
                                  const std::vector<std::string>& patterns) {
  std::set<std::string> chosen;
  for (const std::string& text : patterns) {
    const NamePattern pattern(text);
    const size_t before = chosen.size();
    bool any = false;
    for (const NamedInput& input : inputs) {
      if (!matches(pattern, input)) continue;
      chosen.insert(input.name);
      any = true;
    }
    if (any || chosen.size() > before) continue;
    std::vector<std::string> names;
    for (const NamedInput& input : inputs) names.push_back(input.name);
    throw Error(ErrorCode::kUsage, "a pattern matches no input of the model",
                {.expected = "an input or a linear",
                 .found = text,
                 .fix = did_you_mean(nearest_names(text, names))});
  }
  return chosen;
}

}  // namespace

Collector::Collector(const ModuleMap& model, std::string identity, const CollectOptions& options,
                     const ExecContext& ctx)
    : Collector(model, std::move(identity), options, Statistics{}, ctx) {}

Collector::Collector(const ModuleMap& model, std::string identity, const CollectOptions& options,
                     const Statistics& earlier, const ExecContext& ctx)
    : options_(options), identity_(std::move(identity)), ctx_(ctx.with_tap(nullptr)) {
  const std::vector<NamedInput> inputs = inputs_of(model);
  const std::set<std::string> with_gram = gram_inputs(inputs, options.gram);
  for (const NamedInput& input : inputs) {
    InputStatistics start;
    start.name = input.name;
    start.members = input.members;
    start.k = input.k;
    const ObserverOptions how = {.steps = options.steps,
                                 .tokens = options.tokens,
                                 .histogram = options.histograms,
                                 .gram = with_gram.contains(input.name)};
    const InputStatistics* known = earlier.find(input.name);
    observers_.push_back(std::make_unique<InputObserver>(known == nullptr ? start : *known, how));
  }
  for (Attention* attention : model.attentions) {
    if (!options.attentions || !AttentionObserver::serves(*attention)) continue;
    attentions_.push_back(std::make_unique<AttentionObserver>(
        *attention, options.steps, earlier.of_attention(attention->name())));
  }
  tap_.on_linear_input = [this](std::string_view name, const ConstMatrix& x, int step) {
    see(name, x, step);
  };
}

Collector::~Collector() = default;

const Tap& Collector::tap() const noexcept { return tap_; }

void Collector::see(std::string_view name, const ConstMatrix& x, int step) {
  const auto it = std::ranges::lower_bound(
      observers_, name, {}, [](const auto& o) { return std::string_view(o->name()); });
  if (it == observers_.end() || (*it)->name() != name) {
    throw Error(ErrorCode::kInternal, "an input that the model did not declare",
                {.layer = std::string(name)});
  }
  check_step(name, step, options_.steps);
  (*it)->see(x, step, ctx_);
}

Statistics Collector::statistics() const {
  Statistics stats = {.model = identity_,
                      .steps = options_.steps,
                      .sigmas = options_.sigmas,
                      .token_limit = options_.tokens,
                      .inputs = {},
                      .facts = {}};
  for (const auto& observer : observers_) {
    if (observer->rows() > 0) stats.inputs.push_back(observer->statistics());
  }
  for (const auto& observer : attentions_) {
    if (observer->seen()) stats.attentions.push_back(observer->statistics());
  }
  std::ranges::sort(stats.attentions, {}, &AttentionStatistics::name);
  return stats;
}

}  // namespace mezzotint
