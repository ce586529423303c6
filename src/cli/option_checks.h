// Checks of option values: messages in our own shape, and no bounds in the help text.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "mezzotint/compat.h"
#include "mezzotint/quantize.h"

namespace mezzotint::cli {

template <typename T>
CLI::Validator in_range(T least, T most, std::string expected) {
  const auto check = [=](std::string& text) {
    T value{};
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    const bool is_right =
        parsed.ec == std::errc() && parsed.ptr == end && value >= least && value <= most;
    return is_right ? std::string() : fmt::format("expected {}, got {}", expected, text);
  };
  return CLI::Validator(check, "");
}

inline CLI::Validator count_between(int64_t least, int64_t most) {
  return in_range(least, most, fmt::format("a whole number from {} to {}", least, most));
}
inline CLI::Validator number_between(double least, double most) {
  return in_range(least, most, fmt::format("a number from {:g} to {:g}", least, most));
}
inline CLI::Validator not_negative() {
  return in_range(int64_t{0}, std::numeric_limits<int64_t>::max(), "a whole number, 0 or more");
}

// Of a seed. CLI11 itself reads "-3" as 2^64 - 3.
inline CLI::Validator any_seed() {
  return in_range(uint64_t{0}, std::numeric_limits<uint64_t>::max(), "a whole number, 0 or more");
}

// For option->transform(): a name becomes the number of an enumerator.
template <typename Enum>
CLI::Validator choice_of(std::vector<std::pair<std::string, Enum>> choices) {
  const auto replace = [choices = std::move(choices)](std::string& text) {
    std::string names;
    for (const auto& [name, value] : choices) {
      names += (names.empty() ? "" : ", ") + name;
      if (name != text) continue;
      text = std::to_string(static_cast<int>(value));
      return std::string();
    }
    return fmt::format("expected one of {}, got {}", names, text);
  };
  return CLI::Validator(replace, "");
}

// --compat, the same for every verb.
inline void add_compat(CLI::App& app, Compat& compat, const std::string& what) {
  app.add_option("--compat", compat, "upstream: " + what + "; none is the default")
      ->type_name("MODE")
      ->transform(choice_of<Compat>({{"none", Compat::kNone}, {"upstream", Compat::kUpstream}}));
}

// How a quantized folder is loaded: --compat and --no-strict.
inline void add_loading(CLI::App& app, QuantizeOptions& options) {
  add_compat(app, options.compat, "its roundings and omissions, slowly");
  app.add_flag_callback(
      "--no-strict", [&options] { options.strictness = Strictness::kLenient; },
      "go on without entries that model or version do not serve, and list them");
}

}  // namespace mezzotint::cli
