#include "format/descriptor.h"

#include <algorithm>

#include "format/json_tree.h"
#include "format/mapped_file.h"
#include "format/output_file.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

using Kind = JsonValue::Kind;

constexpr std::string_view kTypeKey = "model_quant_type";
constexpr std::string_view kMetadataKey = "metadata";
constexpr std::string_view kFactsKey = "mezzotint";

// Keys that are not names of tensors, whatever their value.
constexpr std::string_view kReservedKeys[] = {"version",       "group_size",       "metadata",
                                              "optional",      "fa_quant_type",    "kv_quant_type",
                                              "kv_cache_type", "reduce_quant_type"};

bool is_reserved(std::string_view key) {
  return std::find(std::begin(kReservedKeys), std::end(kReservedKeys), key) !=
         std::end(kReservedKeys);
}

[[noreturn]] void fail(std::string_view what, std::string_view file, ErrorDetails details) {
  details.file = file;
  throw Error(ErrorCode::kInput, what, std::move(details));
}

// The type becomes part of a file name, so a hostile one must not hold a path.
std::string checked_type(const JsonValue& value, std::string_view file) {
  if (!value.is_string()) {
    fail("model_quant_type is not a string", file, {.found = json_kind_name(value.kind)});
  }
  std::string type = value.text;
  for (char& c : type) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!plain) {
      fail("model_quant_type is not a plain name", file,
           {.expected = "letters, digits, '_' and '-'", .found = "\"" + value.text + "\""});
    }
  }
  return type;
}

JsonValue string_value(std::string text) {
  JsonValue value;
  value.kind = Kind::kString;
  value.text = std::move(text);
  return value;
}

JsonValue object_value() {
  JsonValue value;
  value.kind = Kind::kObject;
  return value;
}

void add_member(JsonValue* object, std::string key, JsonValue value) {
  object->keys.push_back(std::move(key));
  object->items.push_back(std::move(value));
}

// Moves metadata.mezzotint into `facts`. False when nothing else is left of the metadata.
bool take_facts(JsonValue* metadata, std::string_view file,
                std::map<std::string, std::string>* facts) {
  const JsonValue* ours = metadata->is_object() ? metadata->find(kFactsKey) : nullptr;
  if (ours == nullptr) return true;
  if (!ours->is_object()) {
    fail("metadata.mezzotint is not an object", file, {.found = json_kind_name(ours->kind)});
  }
  for (size_t i = 0; i < ours->keys.size(); ++i) {
    if (!ours->items[i].is_string()) {
      fail("an entry of metadata.mezzotint is not a string", file,
           {.found = ours->keys[i] + ": " + json_kind_name(ours->items[i].kind)});
    }
    facts->emplace(ours->keys[i], ours->items[i].text);
  }
  const auto at = ours - metadata->items.data();
  metadata->items.erase(metadata->items.begin() + at);
  metadata->keys.erase(metadata->keys.begin() + at);
  return !metadata->items.empty();
}

void add_other_keys(const Descriptor& descriptor, JsonValue* root) {
  JsonValue facts = object_value();
  for (const auto& [key, value] : descriptor.facts) add_member(&facts, key, string_value(value));
  const std::string& text = descriptor.other_keys;
  JsonValue others =
      parse_json(std::as_bytes(std::span(text.data(), text.size())), "other_keys of a descriptor");
  if (!others.is_object()) {
    throw Error(ErrorCode::kUsage, "other_keys of a descriptor is not an object",
                {.found = json_kind_name(others.kind)});
  }
  bool facts_written = facts.items.empty();
  for (size_t i = 0; i < others.items.size(); ++i) {
    if (others.keys[i] == kMetadataKey && others.items[i].is_object() && !facts_written) {
      add_member(&others.items[i], std::string(kFactsKey), facts);
      facts_written = true;
    }
    add_member(root, std::move(others.keys[i]), std::move(others.items[i]));
  }
  if (facts_written) return;
  JsonValue metadata = object_value();
  add_member(&metadata, std::string(kFactsKey), std::move(facts));
  add_member(root, std::string(kMetadataKey), std::move(metadata));
}

void check_keys(const JsonValue& root) {
  std::vector<std::string_view> keys(root.keys.begin(), root.keys.end());
  std::sort(keys.begin(), keys.end());
  const auto twin = std::adjacent_find(keys.begin(), keys.end());
  if (twin == keys.end()) return;
  throw Error(ErrorCode::kUsage, "a descriptor would have a key twice",
              {.found = "\"" + std::string(*twin) + "\""});
}

}  // namespace

const std::string* Descriptor::label(std::string_view tensor) const {
  const auto at = std::find_if(labels.begin(), labels.end(),
                               [&](const auto& entry) { return entry.first == tensor; });
  return at == labels.end() ? nullptr : &at->second;
}

Descriptor parse_descriptor(std::span<const std::byte> bytes, std::string_view file_name,
                            std::vector<std::string>* overruled) {
  JsonValue root = parse_json(bytes, file_name, {}, overruled);
  if (!root.is_object()) {
    fail("the descriptor is not a JSON object", file_name,
         {.found = json_kind_name(root.kind), .fix = "name a quant_model_description*.json"});
  }
  Descriptor descriptor;
  JsonValue others = object_value();
  for (size_t i = 0; i < root.keys.size(); ++i) {
    std::string& key = root.keys[i];
    JsonValue& value = root.items[i];
    if (key == kTypeKey) {
      descriptor.model_quant_type = checked_type(value, file_name);
    } else if (value.is_string() && !is_reserved(key)) {
      descriptor.labels.emplace_back(std::move(key), std::move(value.text));
    } else if (key != kMetadataKey || take_facts(&value, file_name, &descriptor.facts)) {
      add_member(&others, std::move(key), std::move(value));
    }
  }
  if (descriptor.labels.empty()) {
    fail("the descriptor labels no tensor", file_name,
         {.fix = "name a quant_model_description*.json"});
  }
  descriptor.other_keys = json_text(others, 0);
  return descriptor;
}

Descriptor read_descriptor(const std::filesystem::path& file, std::vector<std::string>* overruled) {
  return parse_descriptor(MappedFile::open(file)->bytes(), file.string(), overruled);
}

Descriptor read_descriptor(const std::filesystem::path& file) {
  return read_descriptor(file, nullptr);
}

std::string descriptor_text(const Descriptor& descriptor) {
  JsonValue root = object_value();
  for (const auto& [tensor, label] : descriptor.labels) {
    if (is_reserved(tensor)) {
      throw Error(ErrorCode::kUsage, "a tensor has the name of a reserved key of the descriptor",
                  {.tensor = tensor});
    }
    add_member(&root, tensor, string_value(label));
  }
  add_other_keys(descriptor, &root);
  if (!descriptor.model_quant_type.empty()) {
    add_member(&root, std::string(kTypeKey), string_value(descriptor.model_quant_type));
  }
  check_keys(root);
  return json_text(root, 4);
}

void write_descriptor(const std::filesystem::path& file, const Descriptor& descriptor) {
  write_file_atomically(file, descriptor_text(descriptor));
}

}  // namespace mezzotint
