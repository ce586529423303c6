// Reading a JSON configuration file: every missing or bad key is an Error that names file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "format/json_tree.h"

namespace mezzotint {

// One JSON object (or array element) of a file, with the path of keys that leads to it.
class JsonFile {
 public:
  static JsonFile read(const std::filesystem::path& file);

  bool has(std::string_view key) const;  // present and not null
  int64_t integer(std::string_view key, int64_t at_least) const;
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string string(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key, int64_t at_least) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  JsonFile object(std::string_view key) const;
  std::vector<JsonFile> objects(std::string_view key) const;
  std::vector<JsonFile> objects() const;  // the file itself is an array of objects

  // Throws Error(kUnsupported) on a key that is neither listed nor starts with '_': a key we do not
  // know may change what the model computes.
  void refuse_unknown_keys(std::initializer_list<std::string_view> known) const;

  // Throws Error(kInput) naming file and key.
  [[noreturn]] void fail(std::string_view key, std::string_view expected) const;
  const std::string& file() const { return file_; }

 private:
  JsonFile(std::string file, std::string where, JsonValue value);
  const JsonValue* find(std::string_view key) const;
  const JsonValue& require(std::string_view key, std::string_view expected) const;
  std::string path_of(std::string_view key) const;
  std::vector<JsonFile> objects_of(const JsonValue& array, std::string_view key) const;

  std::string file_;
  std::string where_;  // "layers[2]", "" at the top
  JsonValue value_;
};

}  // namespace mezzotint
