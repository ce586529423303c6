#include "mezzotint/error.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"

namespace mezzotint {
namespace {

// Details may come from a hostile file: no terminal escapes, no megabytes of text.
constexpr size_t kMaxDetailBytes = 1000;

std::string printable(std::string_view text) {
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    if (out.size() >= kMaxDetailBytes) return out + fmt::format("... ({} bytes)", text.size());
    const CodePoint c = first_code_point(rest);
    const bool control = c.value < 0x20 || (c.value >= 0x7f && c.value < 0xa0);
    const size_t used = c.bytes == 0 ? 1 : c.bytes;
    if (c.bytes != 0 && !control) {
      out += rest.substr(0, used);
    } else {
      for (const char byte : rest.substr(0, used)) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
      }
    }
    rest.remove_prefix(used);
  }
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
