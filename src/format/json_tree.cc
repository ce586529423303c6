#include "format/json_tree.h"

#include <algorithm>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "format/json_text.h"

namespace mezzotint {
namespace {

using Kind = JsonValue::Kind;

constexpr std::string_view kNotJson = "the file is not valid JSON";
constexpr std::string_view kFix = "write it again or get a fresh copy";

class TreeSax {
 public:
  TreeSax(std::string_view file, const JsonLimits& limits, std::vector<std::string>* overruled)
      : file_(file), limits_(limits), overruled_(overruled) {}

  bool null() { return scalar(Kind::kNull, "null"); }
  bool boolean(bool v) { return scalar(Kind::kBool, v ? "true" : "false"); }
  bool number_integer(int64_t v) { return scalar(Kind::kNumber, std::to_string(v)); }
  bool number_unsigned(uint64_t v) { return scalar(Kind::kNumber, std::to_string(v)); }
  bool number_float(double, const std::string& text) { return scalar(Kind::kNumber, text); }
  bool string(std::string& v) { return scalar(Kind::kString, std::move(v)); }
  bool binary(nlohmann::json::binary_t&) { return false; }  // not in JSON text
  bool start_object(size_t) { return open(Kind::kObject); }
  bool start_array(size_t) { return open(Kind::kArray); }
  bool end_array() { return close(); }
  bool end_object() {
    settle_duplicates(stack_.back());
    return close();
  }
  bool key(std::string& k) {
    stack_.back().keys.push_back(std::move(k));
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) {
    throw_not_json(kNotJson, file_, e.what(), kFix);
  }

  JsonValue take() { return std::move(root_); }

 private:
  bool scalar(Kind kind, std::string text) {
    JsonValue value;
    value.kind = kind;
    value.text = std::move(text);
    return add(std::move(value));
  }

  bool open(Kind kind) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      throw Error(
          ErrorCode::kInput, "the JSON is nested too deeply",
          {.file = file_, .expected = "at most " + std::to_string(limits_.max_depth) + " levels"});
    }
    stack_.emplace_back();
    stack_.back().kind = kind;
    return true;
  }

  bool close() {
    JsonValue done = std::move(stack_.back());
    stack_.pop_back();
    return add(std::move(done));
  }

  bool add(JsonValue value) {
    if (++values_ > limits_.max_values) {
      throw Error(ErrorCode::kInput, "the JSON has too many values",
                  {.file = file_, .expected = "at most " + std::to_string(limits_.max_values)});
    }
    if (stack_.empty()) {
      root_ = std::move(value);
    } else {
      stack_.back().items.push_back(std::move(value));
    }
    return true;
  }

  void settle_duplicates(JsonValue& object) {
    std::vector<std::string_view> names(object.keys.begin(), object.keys.end());
    std::sort(names.begin(), names.end());
    const auto twin = std::adjacent_find(names.begin(), names.end());
    if (twin == names.end()) return;
    if (overruled_ != nullptr) return keep_last_values(object);
    throw Error(
        ErrorCode::kInput, "a key stands twice in the JSON",
        {.file = file_, .found = "\"" + std::string(*twin) + "\"", .fix = "remove one of the two"});
  }

  void keep_last_values(JsonValue& object) {
    JsonValue kept;
    kept.kind = Kind::kObject;
    std::map<std::string, size_t> places;
    for (size_t i = 0; i < object.keys.size(); ++i) {
      const auto [place, is_new] = places.emplace(object.keys[i], kept.items.size());
      if (is_new) {
        kept.keys.push_back(std::move(object.keys[i]));
        kept.items.push_back(std::move(object.items[i]));
      } else {
        kept.items[place->second] = std::move(object.items[i]);
        overruled_->push_back(place->first);
      }
    }
    object = std::move(kept);
  }

  std::string file_;
  JsonLimits limits_;
  std::vector<std::string>* overruled_;
  std::vector<JsonValue> stack_;
  JsonValue root_;
  int64_t values_ = 0;
};

void append_text(std::string* out, const JsonValue& value, int indent, int level);

void append_break(std::string* out, int indent, int level) {
  if (indent == 0) return;
  *out += '\n';
  out->append(static_cast<size_t>(indent) * static_cast<size_t>(level), ' ');
}

void append_items(std::string* out, const JsonValue& value, int indent, int level) {
  for (size_t i = 0; i < value.items.size(); ++i) {
    if (i > 0) *out += indent == 0 ? ", " : ",";
    append_break(out, indent, level + 1);
    if (value.is_object()) *out += json_quote(value.keys[i], JsonEscape::kAscii) + ": ";
    append_text(out, value.items[i], indent, level + 1);
  }
  if (!value.items.empty()) append_break(out, indent, level);
}

void append_text(std::string* out, const JsonValue& value, int indent, int level) {
  switch (value.kind) {
    case Kind::kNull:
    case Kind::kBool:
    case Kind::kNumber:
      *out += value.text;
      return;
    case Kind::kString:
      *out += json_quote(value.text, JsonEscape::kAscii);
      return;
    case Kind::kArray:
      *out += '[';
      append_items(out, value, indent, level);
      *out += ']';
      return;
    case Kind::kObject:
      *out += '{';
      append_items(out, value, indent, level);
      *out += '}';
      return;
  }
}

}  // namespace

const char* json_kind_name(Kind kind) noexcept {
  constexpr const char* kNames[] = {"null",     "true or false", "a number",
                                    "a string", "a list",        "an object"};
  return kNames[static_cast<size_t>(kind)];
}

const JsonValue* JsonValue::find(std::string_view key) const {
  const auto at = std::find(keys.begin(), keys.end(), key);
  return at == keys.end() ? nullptr : &items[static_cast<size_t>(at - keys.begin())];
}

JsonValue parse_json(std::span<const std::byte> bytes, std::string_view file,
                     const JsonLimits& limits, std::vector<std::string>* overruled) {
  if (static_cast<int64_t>(bytes.size()) > limits.max_bytes) {
    throw Error(ErrorCode::kInput, "the JSON file is too large",
                {.file = std::string(file),
                 .expected = "at most " + std::to_string(limits.max_bytes) + " bytes",
                 .found = std::to_string(bytes.size())});
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\xef\xbb\xbf")) {
    throw Error(ErrorCode::kInput, "the JSON file begins with a byte order mark",
                {.file = std::string(file), .fix = "save it as UTF-8 without BOM"});
  }
  reject_zero_bytes(text, kNotJson, file, kFix);
  TreeSax sax(file, limits, overruled);
  nlohmann::json::sax_parse(text.begin(), text.end(), &sax);
  return sax.take();
}

std::string json_text(const JsonValue& value, int indent) {
  std::string out;
  append_text(&out, value, indent, 0);
  return out;
}

void reject_zero_bytes(std::string_view text, std::string_view what, std::string_view file,
                       std::string_view fix) {
  const size_t at = text.find('\0');
  if (at == std::string_view::npos) return;
  throw_not_json(what, file, "a zero byte at " + std::to_string(at), fix);
}

void throw_not_json(std::string_view what, std::string_view file, std::string_view parser,
                    std::string_view fix) {
  std::string_view found = parser;  // "[json.exception.parse_error.101] parse error at line 1, ..."
  const size_t bracket = found.find("] ");
  if (found.starts_with("[json.") && bracket != std::string_view::npos) {
    found.remove_prefix(bracket + 2);
  }
  throw Error(ErrorCode::kInput, what,
              {.file = std::string(file), .found = std::string(found), .fix = std::string(fix)});
}

}  // namespace mezzotint
