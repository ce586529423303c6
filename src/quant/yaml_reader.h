// Reading YAML of a known schema: every problem is one Error(kInput) that names kind of file, key,
// file and line.
//
//   const YamlReader reader("recipe", "r.yaml");
//   const YAML::Node root = reader.parse(text);
//   reader.check_keys(root, {"mezzotint", "rules"});      // an unknown key: did you mean ...
//   const int64_t version = reader.integer(root, "mezzotint");
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <yaml-cpp/yaml.h>

namespace mezzotint {

class YamlReader {
 public:
  YamlReader(std::string kind, std::string file) : kind_(std::move(kind)), file_(std::move(file)) {}

  const std::string& file() const noexcept { return file_; }

  // At most 1 MiB: these files are written by hand.
  YAML::Node parse(std::string_view text) const;

  // `node` must be a map with these keys, none of them twice.
  void check_keys(const YAML::Node& node, std::initializer_list<std::string_view> known) const;

  std::string text(const YAML::Node& map, const char* key) const;
  int64_t integer(const YAML::Node& map, const char* key) const;
  double number(const YAML::Node& map, const char* key) const;
  bool flag(const YAML::Node& map, const char* key) const;
  std::string pattern(const YAML::Node& map, const char* key) const;  // of base/glob.h

  YAML::Node list(const YAML::Node& map, const char* key) const;  // empty where there is none
  std::vector<std::string> names(const YAML::Node& map, const char* key) const;
  std::vector<std::string> patterns(const YAML::Node& map, const char* key) const;

  // The value of the name that stands there; an error lists all names.
  template <typename T>
  T choice(const YAML::Node& map, const char* key,
           std::initializer_list<std::pair<std::string_view, T>> choices) const {
    const std::string found = text(map, key);
    std::vector<std::string_view> known;
    for (const auto& [name, value] : choices) {
      if (found == name) return value;
      known.push_back(name);
    }
    unknown(key, known, found, map[key]);
  }

  [[noreturn]] void fail(std::string_view key, std::string expected, std::string found,
                         const YAML::Node& where = {}, std::string fix = {}) const;

 private:
  [[noreturn]] void unknown(std::string_view key, const std::vector<std::string_view>& known,
                            const std::string& found, const YAML::Node& where) const;
  YAML::Node scalar(const YAML::Node& map, const char* key) const;
  template <typename T>
  T value(const YAML::Node& map, const char* key, const char* expected) const;
  std::string place(const YAML::Node& where) const;

  std::string kind_;
  std::string file_;
};

}  // namespace mezzotint
