#include "mezzotint/error.h"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace mezzotint {
namespace {

// Details may come from a hostile file: no terminal escapes, no megabytes of text.
constexpr size_t kMaxDetailBytes = 1000;

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kMaxDetailBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  if (text.size() > kMaxDetailBytes) out += fmt::format("... ({} bytes)", text.size());
  return out;
}

std::string message(std::string_view what, const ErrorDetails& d) {
  std::string text(what);
  if (!d.expected.empty()) text += ": expected " + printable(d.expected);
  if (!d.found.empty()) text += (d.expected.empty() ? ": got " : ", got ") + printable(d.found);

  std::string place;
  const std::array<std::pair<const char*, const std::string*>, 3> parts = {
      {{"layer ", &d.layer}, {"tensor ", &d.tensor}, {"file ", &d.file}}};
  for (const auto& [label, value] : parts) {
    if (value->empty()) continue;
    if (!place.empty()) place += ", ";
    place += label + printable(*value);
  }
  if (!place.empty()) text += " (" + place + ")";
  if (!d.fix.empty()) text += "\n  fix: " + printable(d.fix);
  return text;
}

}  // namespace

Error::Error(ErrorCode code, std::string_view what, ErrorDetails details)
    : std::runtime_error(message(what, details)), code_(code), details_(std::move(details)) {}

Error::~Error() = default;

}  // namespace mezzotint
