#include "mezzotint/timestep.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kStatic = "static";
constexpr std::string_view kDynamic = "dynamic";

std::string_view name_of(StepMode mode) { return mode == StepMode::kStatic ? kStatic : kDynamic; }

StepMode other(StepMode mode) {
  return mode == StepMode::kStatic ? StepMode::kDynamic : StepMode::kStatic;
}

[[noreturn]] void unreadable(std::string_view text) {
  throw Error(ErrorCode::kInput, "a timestep policy cannot be read",
              {.expected = "\"static 25-49\", \"dynamic 0-24,30\", \"static\" or \"dynamic\"",
               .found = std::string(text)});
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < 0) return std::nullopt;
  return value;
}

}  // namespace

void TimestepPolicy::set(int first, int last, StepMode mode) {
  if (first < 0 || last < first) {
    throw Error(ErrorCode::kUsage, "a timestep policy needs steps in order",
                {.expected = "0 <= first <= last", .found = fmt::format("{}..{}", first, last)});
  }
  ranges_.push_back({first, last, mode});
}

StepMode TimestepPolicy::at(int step) const noexcept {
  for (auto range = ranges_.rbegin(); range != ranges_.rend(); ++range) {
    if (step >= range->first && step <= range->last) return range->mode;
  }
  return otherwise_;
}

std::string TimestepPolicy::text() const {
  // Modes change at the ends of ranges only.
  std::set<int> starts = {0};
  for (const Range& range : ranges_) {
    starts.insert(range.first);
    starts.insert(range.last + 1);
  }
  std::string text;
  int first = -1;  // of the run of exceptions that is open
  for (const int start : starts) {
    const bool exception = at(start) != otherwise_;
    if (exception && first < 0) first = start;
    if (exception || first < 0) continue;
    text += fmt::format("{}{}-{}", text.empty() ? "" : ",", first, start - 1);
    first = -1;
  }
  if (text.empty()) return std::string(name_of(otherwise_));
  return fmt::format("{} {}", name_of(other(otherwise_)), text);
}

TimestepPolicy TimestepPolicy::parse(std::string_view text) {
  const size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  if (word != kStatic && word != kDynamic) unreadable(text);
  const StepMode mode = word == kStatic ? StepMode::kStatic : StepMode::kDynamic;
  if (space == std::string_view::npos) return TimestepPolicy(mode);
  TimestepPolicy policy(other(mode));
  for (std::string_view rest = text.substr(space + 1);;) {
    const size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    const size_t dash = part.find('-');
    const std::optional<int> first = number(part.substr(0, dash));
    const std::optional<int> last =
        dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first) unreadable(text);
    policy.set(*first, *last, mode);
    if (comma == std::string_view::npos) return policy;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace mezzotint
