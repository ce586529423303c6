#include "quant/step_shares.h"

#include <charconv>
#include <optional>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

std::optional<double> number(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

StepShare parse_step_share(StepMode mode, std::string_view text) {
  constexpr std::string_view kTo = "..";
  const size_t to = text.find(kTo);
  if (to != std::string_view::npos) {
    const std::optional<double> first = number(text.substr(0, to));
    const std::optional<double> last = number(text.substr(to + kTo.size()));
    if (first && last && 0 <= *first && *first <= *last && *last <= 1) {
      return {.mode = mode, .first = *first, .last = *last};
    }
  }
  throw Error(ErrorCode::kInput, "a part of the denoising steps cannot be read",
              {.expected = "\"FIRST..LAST\" with 0 <= FIRST <= LAST <= 1, such as \"0.5..1.0\"",
               .found = std::string(text)});
}

TimestepPolicy policy_of_shares(std::span<const StepShare> shares, int64_t steps) {
  TimestepPolicy policy;
  for (int64_t step = 0; step < steps; ++step) {
    const double middle = (static_cast<double>(step) + 0.5) / static_cast<double>(steps);
    for (const StepShare& share : shares) {
      if (middle < share.first || middle > share.last) continue;
      policy.set(static_cast<int>(step), static_cast<int>(step), share.mode);
    }
  }
  return policy;
}

}  // namespace mezzotint
