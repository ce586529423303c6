#include "model_collector.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/nearest.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

[[noreturn]] void other_statistics(std::string_view what, std::string expected, std::string found) {
  throw Error(ErrorCode::kUsage, fmt::format("the earlier statistics are of {}", what),
              {.expected = std::move(expected),
               .found = std::move(found),
               .fix = "collect into another file, or start again without resume"});
}

}  // namespace

ModelCollector::ModelCollector(std::string identity, const CollectOptions& options,
                               const std::vector<std::string>& linears, const Statistics* earlier)
    : identity_(std::move(identity)), options_(options) {
  for (const std::string& text : options.gram) {
    const NamePattern& pattern = gram_.emplace_back(text);
    if (std::ranges::any_of(linears, [&](const auto& name) { return pattern.matches(name); })) {
      continue;
    }
    throw Error(ErrorCode::kUsage, "a pattern of gram= matches no linear of the model",
                {.found = text, .fix = did_you_mean(nearest_names(text, linears))});
  }
  if (earlier == nullptr) return;
  check(*earlier);
  for (const InputStatistics& input : earlier->inputs) add(input);
}

void ModelCollector::check(const Statistics& earlier) const {
  if (earlier.model != identity_) other_statistics("another model", identity_, earlier.model);
  if (earlier.steps != options_.steps) {
    other_statistics("another number of steps", std::to_string(options_.steps),
                     std::to_string(earlier.steps));
  }
  if (earlier.token_limit != options_.tokens) {
    other_statistics("another size of sample", std::to_string(options_.tokens),
                     std::to_string(earlier.token_limit));
  }
  for (const InputStatistics& input : earlier.inputs) {
    if (input.hist.empty() == options_.histograms) {
      other_statistics("another choice of histograms", options_.histograms ? "some" : "none",
                       input.name);
    }
    if (input.gram.empty() == wants_gram(input.name)) {
      other_statistics("another choice of Gram matrices", wants_gram(input.name) ? "one" : "none",
                       input.name);
    }
  }
}

bool ModelCollector::wants_gram(const std::string& linear) const {
  return std::ranges::any_of(gram_, [&](const NamePattern& p) { return p.matches(linear); });
}

void ModelCollector::add(InputStatistics start) {
  const bool gram = wants_gram(start.name);
  Input input = {.observer = nullptr, .readers = start.members, .with_gram = gram};
  input.observer =
      std::make_unique<InputObserver>(start, ObserverOptions{.steps = options_.steps,
                                                             .tokens = options_.tokens,
                                                             .histogram = options_.histograms,
                                                             .gram = gram});
  inputs_.push_back(std::move(input));
}

int64_t ModelCollector::add_input(const std::string& name, int64_t k) {
  const auto known = std::ranges::find_if(
      inputs_, [&](const Input& input) { return input.observer->name() == name; });
  if (known != inputs_.end()) return known - inputs_.begin();
  InputStatistics start;
  start.name = name;
  start.members = {name};
  start.k = k;
  add(std::move(start));
  return static_cast<int64_t>(inputs_.size()) - 1;
}

void ModelCollector::add_reader(int64_t input, const std::string& linear) {
  Input& shared = inputs_.at(static_cast<size_t>(input));
  if (std::ranges::find(shared.readers, linear) != shared.readers.end()) return;
  if (wants_gram(linear) && !shared.with_gram) {
    throw Error(ErrorCode::kUsage, "a Gram matrix is asked for under another name than its input's",
                {.layer = linear,
                 .expected = fmt::format("a pattern of gram= that matches {}, which reads the "
                                         "same tensor first",
                                         shared.observer->name()),
                 .fix = "name that linear"});
  }
  shared.readers.push_back(linear);
}

void ModelCollector::see(int64_t input, const ConstMatrix& x, int step, const ExecContext& ctx) {
  InputObserver& observer = *inputs_.at(static_cast<size_t>(input)).observer;
  if (step < 0 || step >= options_.steps) {
    throw Error(ErrorCode::kUsage, "a step outside of the run that statistics are for",
                {.layer = observer.name(),
                 .expected = fmt::format("0 to {}", options_.steps - 1),
                 .found = std::to_string(step),
                 .fix = "collect(steps=) is the number of denoising steps"});
  }
  observer.see(x, step, ctx);
}

Statistics ModelCollector::statistics() const {
  Statistics stats = {.model = identity_,
                      .steps = options_.steps,
                      .sigmas = options_.sigmas,
                      .token_limit = options_.tokens,
                      .inputs = {},
                      .facts = {}};
  for (const Input& input : inputs_) {
    if (input.observer->rows() == 0) continue;
    stats.inputs.push_back(input.observer->statistics());
    stats.inputs.back().members = input.readers;
  }
  std::ranges::sort(stats.inputs, {}, &InputStatistics::name);
  return stats;
}

}  // namespace mezzotint
