#include "cli/text.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

namespace mezzotint::cli {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

}  // namespace

std::string human_bytes(int64_t bytes) {
  constexpr std::array<Unit, 4> kShown = {{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}};
  const auto value = static_cast<double>(bytes);
  for (const Unit& unit : kShown) {
    // 999 950 bytes are 1.0 MB, not 1000.0 kB.
    if (value < unit.bytes * 0.99995) continue;
    return fmt::format("{:.1f} {}", value / unit.bytes, unit.name);
  }
  return fmt::format("{} B", bytes);
}

std::string human_clock(double seconds) {
  const auto total = static_cast<int64_t>(std::lround(std::max(0.0, seconds)));
  const int64_t hours = total / 3600;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string human_seconds(double seconds) {
  if (seconds < 0.9995) return fmt::format("{:.3g} ms", seconds * 1e3);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto total = static_cast<int64_t>(std::lround(seconds));
  return fmt::format("{} min {} s", total / 60, total % 60);
}

std::string human_count(int64_t count) {
  std::string digits = std::to_string(count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, " ");
  }
  return digits;
}

std::string shell_quoted(std::string_view argument) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%";
  if (!argument.empty() && argument.find_first_not_of(kSafe) == std::string_view::npos) {
    return std::string(argument);
  }
  std::string quoted = "'";
  for (const char c : argument) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string ellipsized(std::string_view text, size_t columns) {
  if (text.size() <= columns) return std::string(text);
  if (columns <= 3) return std::string(text.substr(0, columns));
  // The end of a layer name says more than its beginning.
  const size_t head = (columns - 3) / 3;
  const size_t tail = columns - 3 - head;
  return fmt::format("{}...{}", text.substr(0, head), text.substr(text.size() - tail));
}

std::string plural(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace mezzotint::cli
