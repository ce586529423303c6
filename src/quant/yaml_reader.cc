#include "quant/yaml_reader.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/glob.h"
#include "base/nearest.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr size_t kMostBytes = 1 << 20;

std::string described(const YAML::Node& node) {
  if (!node.IsDefined()) return "nothing";
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a map";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return node.Scalar();
    default:
      return "nothing";
  }
}

}  // namespace

std::string YamlReader::place(const YAML::Node& where) const {
  if (!where.IsDefined() || where.Mark().is_null()) return file_;
  return fmt::format("{}:{}", file_, where.Mark().line + 1);
}

void YamlReader::fail(std::string_view key, std::string expected, std::string found,
                      const YAML::Node& where, std::string fix) const {
  throw Error(ErrorCode::kInput, fmt::format("{} key '{}'", kind_, key),
              {.file = place(where),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = std::move(fix)});
}

void YamlReader::unknown(std::string_view key, const std::vector<std::string_view>& known,
                         const std::string& found, const YAML::Node& where) const {
  fail(key, fmt::format("one of {}", fmt::join(known, ", ")), found, where,
       did_you_mean(nearest_names(found, known, 2)));
}

YAML::Node YamlReader::parse(std::string_view text) const {
  if (text.size() > kMostBytes) {
    fail("(text)", "at most 1 MiB", fmt::format("{} bytes", text.size()));
  }
  try {
    return YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    fail("(text)", "YAML", error.what());
  }
}

void YamlReader::check_keys(const YAML::Node& node,
                            std::initializer_list<std::string_view> known) const {
  const std::vector<std::string_view> names(known);
  if (!node.IsMap()) {
    fail("(root)", fmt::format("a map with {}", fmt::join(names, ", ")), described(node), node);
  }
  std::vector<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "(not a name)";
    if (std::ranges::find(names, key) == names.end()) {
      fail(key, fmt::format("one of {}", fmt::join(names, ", ")), "an unknown one", entry.first,
           did_you_mean(nearest_names(key, names, 2)));
    }
    if (std::ranges::find(seen, key) != seen.end()) fail(key, "it once", "it twice", entry.first);
    seen.push_back(key);
  }
}

YAML::Node YamlReader::scalar(const YAML::Node& map, const char* key) const {
  const YAML::Node value = map[key];
  if (!value || !value.IsScalar()) fail(key, "a scalar", described(value), map);
  return value;
}

template <typename T>
T YamlReader::value(const YAML::Node& map, const char* key, const char* expected) const {
  const YAML::Node node = scalar(map, key);
  try {
    return node.as<T>();
  } catch (const YAML::Exception&) {
    fail(key, expected, node.Scalar(), node);
  }
}

std::string YamlReader::text(const YAML::Node& map, const char* key) const {
  return scalar(map, key).Scalar();
}

int64_t YamlReader::integer(const YAML::Node& map, const char* key) const {
  return value<int64_t>(map, key, "a whole number");
}

double YamlReader::number(const YAML::Node& map, const char* key) const {
  return value<double>(map, key, "a number");
}

bool YamlReader::flag(const YAML::Node& map, const char* key) const {
  return value<bool>(map, key, "true or false");
}

std::string YamlReader::pattern(const YAML::Node& map, const char* key) const {
  std::string text = this->text(map, key);
  const NamePattern valid(text);  // throws on a bad one
  return text;
}

YAML::Node YamlReader::list(const YAML::Node& map, const char* key) const {
  const YAML::Node value = map[key];
  if (!value) return YAML::Node(YAML::NodeType::Sequence);
  if (!value.IsSequence()) fail(key, "a list", described(value), value);
  return value;
}

std::vector<std::string> YamlReader::names(const YAML::Node& map, const char* key) const {
  std::vector<std::string> texts;
  for (const YAML::Node& item : list(map, key)) {
    if (!item.IsScalar()) fail(key, "a list of names", described(item), item);
    texts.push_back(item.Scalar());
  }
  return texts;
}

std::vector<std::string> YamlReader::patterns(const YAML::Node& map, const char* key) const {
  std::vector<std::string> texts = names(map, key);
  for (const std::string& text : texts) const NamePattern valid(text);  // throws on a bad one
  return texts;
}

}  // namespace mezzotint
