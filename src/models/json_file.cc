#include "models/json_file.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

using Kind = JsonValue::Kind;

// Configuration files are a few kB; anything larger is not one.
constexpr JsonLimits kLimits{.max_bytes = 16 << 20, .max_depth = 16, .max_values = 100'000};
constexpr size_t kMaxShownCharacters = 60;

std::string shown(const JsonValue& value) {
  std::string text = json_text(value, 0);
  if (text.size() > kMaxShownCharacters) text = text.substr(0, kMaxShownCharacters) + "...";
  return text;
}

std::optional<int64_t> integer_of(const JsonValue& value) {
  if (value.kind != Kind::kNumber) return std::nullopt;
  int64_t number = 0;
  const char* end = value.text.data() + value.text.size();
  const auto [stop, error] = std::from_chars(value.text.data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

double number_of(const JsonValue& value) { return std::strtod(value.text.c_str(), nullptr); }

bool is_kind(const JsonValue& value, Kind kind) { return value.kind == kind; }

bool is_array_of(const JsonValue& value, Kind kind) {
  const auto fits = [&](const JsonValue& item) { return item.kind == kind; };
  return value.kind == Kind::kArray && std::ranges::all_of(value.items, fits);
}

std::vector<std::byte> read_bytes(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);  // fails for pipes, devices
  std::ifstream in;
  if (!error) in.open(file, std::ios::binary);
  if (error || !in) {
    throw Error(ErrorCode::kInput, "cannot read the file",
                {.file = file.string(),
                 .expected = "a JSON file",
                 .found = error ? error.message() : "no permission to read it"});
  }
  const auto limit = static_cast<std::uintmax_t>(kLimits.max_bytes) + 1;  // the parser refuses it
  std::vector<std::byte> content(std::min(bytes, limit));
  in.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(in.gcount()));
  return content;
}

}  // namespace

JsonFile::JsonFile(std::string file, std::string where, JsonValue value)
    : file_(std::move(file)), where_(std::move(where)), value_(std::move(value)) {}

JsonFile JsonFile::read(const std::filesystem::path& file) {
  return JsonFile(file.string(), "", parse_json(read_bytes(file), file.string(), kLimits));
}

std::string JsonFile::path_of(std::string_view key) const {
  if (where_.empty()) return std::string(key);
  return key.empty() ? where_ : fmt::format("{}.{}", where_, key);
}

void JsonFile::fail(std::string_view key, std::string_view expected) const {
  const JsonValue* value = find(key);
  throw Error(ErrorCode::kInput, fmt::format("key '{}'", path_of(key)),
              {.file = file_,
               .expected = std::string(expected),
               .found = key.empty() ? shown(value_)
                        : value     ? shown(*value)
                                    : "no such key"});
}

const JsonValue* JsonFile::find(std::string_view key) const {
  return is_kind(value_, Kind::kObject) ? value_.find(key) : nullptr;
}

const JsonValue& JsonFile::require(std::string_view key, std::string_view expected) const {
  const JsonValue* value = find(key);
  if (!value) fail(key, expected);
  return *value;
}

bool JsonFile::has(std::string_view key) const {
  const JsonValue* value = find(key);
  return value && !is_kind(*value, Kind::kNull);
}

int64_t JsonFile::integer(std::string_view key, int64_t at_least) const {
  const std::string expected = fmt::format("an integer of at least {}", at_least);
  const std::optional<int64_t> value = integer_of(require(key, expected));
  if (!value || *value < at_least) fail(key, expected);
  return *value;
}

double JsonFile::number(std::string_view key) const {
  const JsonValue& value = require(key, "a number");
  if (!is_kind(value, Kind::kNumber)) fail(key, "a number");
  return number_of(value);
}

bool JsonFile::boolean(std::string_view key) const {
  const JsonValue& value = require(key, "true or false");
  if (!is_kind(value, Kind::kBool)) fail(key, "true or false");
  return value.text == "true";
}

std::string JsonFile::string(std::string_view key) const {
  const JsonValue& value = require(key, "a string");
  if (!is_kind(value, Kind::kString)) fail(key, "a string");
  return value.text;
}

std::vector<int64_t> JsonFile::integers(std::string_view key, int64_t at_least) const {
  const std::string expected = fmt::format("an array of integers of at least {}", at_least);
  const JsonValue& value = require(key, expected);
  if (!is_array_of(value, Kind::kNumber)) fail(key, expected);
  std::vector<int64_t> integers;
  for (const JsonValue& item : value.items) {
    const std::optional<int64_t> number = integer_of(item);
    if (!number || *number < at_least) fail(key, expected);
    integers.push_back(*number);
  }
  return integers;
}

std::vector<double> JsonFile::numbers(std::string_view key) const {
  const JsonValue& value = require(key, "an array of numbers");
  if (!is_array_of(value, Kind::kNumber)) fail(key, "an array of numbers");
  std::vector<double> numbers;
  std::ranges::transform(value.items, std::back_inserter(numbers), number_of);
  return numbers;
}

std::vector<std::string> JsonFile::strings(std::string_view key) const {
  const JsonValue& value = require(key, "an array of strings");
  if (!is_array_of(value, Kind::kString)) fail(key, "an array of strings");
  std::vector<std::string> strings;
  for (const JsonValue& item : value.items) strings.push_back(item.text);
  return strings;
}

JsonFile JsonFile::object(std::string_view key) const {
  const JsonValue& value = require(key, "an object");
  if (!is_kind(value, Kind::kObject)) fail(key, "an object");
  return JsonFile(file_, path_of(key), value);
}

std::vector<JsonFile> JsonFile::objects_of(const JsonValue& array, std::string_view key) const {
  if (!is_array_of(array, Kind::kObject)) fail(key, "an array of objects");
  std::vector<JsonFile> objects;
  for (size_t i = 0; i < array.items.size(); ++i) {
    objects.push_back(JsonFile(file_, fmt::format("{}[{}]", path_of(key), i), array.items[i]));
  }
  return objects;
}

std::vector<JsonFile> JsonFile::objects(std::string_view key) const {
  return objects_of(require(key, "an array of objects"), key);
}

std::vector<JsonFile> JsonFile::objects() const { return objects_of(value_, ""); }

void JsonFile::refuse_unknown_keys(std::initializer_list<std::string_view> known) const {
  if (!is_kind(value_, Kind::kObject)) fail("", "an object");
  for (size_t i = 0; i < value_.keys.size(); ++i) {
    const std::string& key = value_.keys[i];
    if (key.starts_with("_") || std::ranges::find(known, key) != known.end()) continue;
    throw Error(ErrorCode::kUnsupported, fmt::format("key '{}' is not known", path_of(key)),
                {.file = file_,
                 .found = shown(value_.items[i]),
                 .fix = "remove the key if it does not change what the model computes"});
  }
}

}  // namespace mezzotint
