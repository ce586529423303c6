// Writing JSON strings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mezzotint {

enum class JsonEscape : uint8_t {
  kAscii,  // everything but printable ASCII as \uXXXX, like Python's json.dump
  kUtf8,   // UTF-8 stands as it is, like the headers that safetensors writes
};

// The text between quotation marks. Throws Error(kUsage) when `text` is not UTF-8.
std::string json_quote(std::string_view text, JsonEscape escape);

}  // namespace mezzotint
