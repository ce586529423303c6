// JSON as a tree that keeps the order of members and the text of numbers, read with limits: what a
// hostile file can do is bounded by JsonLimits, and every error is one Error(kInput).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/error.h"

namespace mezzotint {

struct JsonValue {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  std::string text;               // string: its value; number, bool and null: as it is written
  std::vector<std::string> keys;  // object: keys[i] names items[i]
  std::vector<JsonValue> items;

  bool is_string() const noexcept { return kind == Kind::kString; }
  bool is_object() const noexcept { return kind == Kind::kObject; }
  const JsonValue* find(std::string_view key) const;  // nullptr when absent
};

const char* json_kind_name(JsonValue::Kind kind) noexcept;  // "a string"

struct JsonLimits {
  int64_t max_bytes = int64_t{256} << 20;
  int max_depth = 64;
  // A value takes about 100 bytes of memory and as little as 2 in the file.
  int64_t max_values = 2'000'000;
};

// Parses a whole document. Errors name `file` and, where there is one, the key: not JSON, a byte
// order mark, a duplicate key, one of the limits. With `overruled`, duplicate keys are no error: as
// in Python the last value counts, in the place of the first, and the keys are added.
JsonValue parse_json(std::span<const std::byte> bytes, std::string_view file,
                     const JsonLimits& limits = {}, std::vector<std::string>* overruled = nullptr);

// Like Python's json.dumps(value, indent=N); indent 0 writes one line, as json.dumps(value).
std::string json_text(const JsonValue& value, int indent);

// The parser takes a zero byte for the end of the text and would ignore what follows it; in JSON
// there is none. Throws like throw_not_json.
void reject_zero_bytes(std::string_view text, std::string_view what, std::string_view file,
                       std::string_view fix);

// An Error(kInput) for a text that is not JSON: what the parser said, without its own prefixes.
[[noreturn]] void throw_not_json(std::string_view what, std::string_view file,
                                 std::string_view parser, std::string_view fix);

}  // namespace mezzotint
