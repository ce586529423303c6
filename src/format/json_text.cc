#include "format/json_text.h"

#include <fmt/format.h>

#include "base/utf8.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

const char* short_escape(uint32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return nullptr;
  }
}

void append_utf16(std::string* out, uint32_t c) {
  if (c < 0x10000) {
    *out += fmt::format("\\u{:04x}", c);
    return;
  }
  const uint32_t rest = c - 0x10000;
  *out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
}

}  // namespace

std::string json_quote(std::string_view text, JsonEscape escape) {
  std::string out = "\"";
  for (std::string_view rest = text; !rest.empty();) {
    const CodePoint c = first_code_point(rest);
    if (c.bytes == 0) {
      throw Error(ErrorCode::kUsage, "a name is not valid UTF-8", {.found = std::string(text)});
    }
    const bool printable_ascii = c.value >= 0x20 && c.value < 0x7f;
    if (const char* pair = short_escape(c.value)) {
      out += pair;
    } else if (printable_ascii || (escape == JsonEscape::kUtf8 && c.value >= 0x20)) {
      out += rest.substr(0, c.bytes);
    } else {
      append_utf16(&out, c.value);
    }
    rest.remove_prefix(c.bytes);
  }
  return out + '"';
}

}  // namespace mezzotint
