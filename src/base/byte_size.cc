#include "base/byte_size.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace mezzotint {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr Unit kUnits[] = {{"B", 1},         {"KB", 1e3},         {"MB", 1e6},
                           {"GB", 1e9},      {"TB", 1e12},        {"KiB", 1024},
                           {"MiB", 1048576}, {"GiB", 1073741824}, {"TiB", 1099511627776.0}};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

std::optional<double> unit_bytes(std::string_view name) {
  if (name.empty()) return 1.0;
  for (const Unit& unit : kUnits) {
    // "5G" and "5Gi" are what du and kubectl users type.
    const std::string_view bare = unit.name.substr(0, unit.name.size() - 1);
    if (equal_ignoring_case(name, unit.name)) return unit.bytes;
    if (!bare.empty() && equal_ignoring_case(name, bare)) return unit.bytes;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> parse_bytes(std::string_view text) {
  double value = 0;
  const auto [rest, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  std::string_view unit = text.substr(static_cast<size_t>(rest - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const std::optional<double> factor = unit_bytes(unit);
  if (!factor) return std::nullopt;
  const double bytes = std::floor(value * *factor);
  if (!(bytes >= 1) || bytes >= static_cast<double>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace mezzotint
