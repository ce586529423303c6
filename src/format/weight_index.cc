#include "format/weight_index.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "format/json_text.h"
#include "format/json_tree.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kFix = "get the index file again";

[[noreturn]] void fail(std::string_view what, std::string_view file, ErrorDetails details) {
  details.file = file;
  if (details.fix.empty()) details.fix = kFix;
  throw Error(ErrorCode::kInput, what, std::move(details));
}

bool is_plain_file_name(std::string_view name) {
  const bool separators = name.find_first_of("/\\:") != std::string_view::npos;
  const bool control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  return !name.empty() && name.front() != '.' && name.size() <= 255 && !separators && !control;
}

void add_entry(const std::string& tensor, const JsonValue& shard, std::string_view file,
               WeightIndex* index) {
  if (!shard.is_string()) {
    fail("weight_map has a value that is not a file name", file,
         {.tensor = tensor, .found = json_kind_name(shard.kind)});
  }
  if (!is_plain_file_name(shard.text) || !shard.text.ends_with(".safetensors")) {
    fail("weight_map names a file that is not a plain .safetensors file name", file,
         {.tensor = tensor,
          .expected = "a name without folders",
          .found = "\"" + shard.text + "\"",
          .fix = "do not use this index: it points outside its folder or to another format"});
  }
  index->weight_map.emplace(tensor, shard.text);
  index->shards.push_back(shard.text);
}

std::optional<int64_t> total_size(const JsonValue& root) {
  const JsonValue* metadata = root.find("metadata");
  const JsonValue* size = metadata == nullptr ? nullptr : metadata->find("total_size");
  if (size == nullptr || size->kind != JsonValue::Kind::kNumber) return std::nullopt;
  int64_t value = 0;
  const std::string& text = size->text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

WeightIndex parse_index(std::span<const std::byte> bytes, std::string_view file_name) {
  const JsonValue root = parse_json(bytes, file_name);
  const JsonValue* map = root.is_object() ? root.find("weight_map") : nullptr;
  if (map == nullptr || !map->is_object()) {
    fail("the index has no weight_map", file_name,
         {.expected = "an object \"weight_map\"",
          .found = json_kind_name(map == nullptr ? root.kind : map->kind)});
  }
  if (map->keys.empty()) fail("the weight_map of the index is empty", file_name, {});
  WeightIndex index;
  for (size_t i = 0; i < map->keys.size(); ++i) {
    add_entry(map->keys[i], map->items[i], file_name, &index);
  }
  std::sort(index.shards.begin(), index.shards.end());
  index.shards.erase(std::unique(index.shards.begin(), index.shards.end()), index.shards.end());
  index.total_size = total_size(root);
  return index;
}

std::string index_text(const WeightIndex& index, std::string_view run_id) {
  std::string text = fmt::format(
      "{{\n  \"metadata\": {{\n    \"mezzotint_run\": \"{}\",\n    \"total_size\": {}\n  }},\n"
      "  \"weight_map\": {{",
      run_id, index.total_size.value_or(0));
  const char* separator = "\n";
  for (const auto& [tensor, shard] : index.weight_map) {
    text += separator;
    text += "    " + json_quote(tensor, JsonEscape::kAscii) + ": " +
            json_quote(shard, JsonEscape::kAscii);
    separator = ",\n";
  }
  return text + "\n  }\n}\n";
}

}  // namespace mezzotint
