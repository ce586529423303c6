#include "format/safetensors_sax.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "format/json_tree.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kNotJson = "the header is not valid JSON";
constexpr std::string_view kDamaged = "the file is damaged: copy or download it again";

std::string all_dtypes() {
  std::string names;
  for (int i = 0; i <= static_cast<int>(DType::kF8E8M0); ++i) {
    names += (i == 0 ? "one of " : ", ") + std::string(dtype_name(static_cast<DType>(i)));
  }
  return names;
}

class HeaderSax {
 public:
  explicit HeaderSax(std::string_view file) : file_(file) {}

  bool null() { return wrong_type("null"); }
  bool boolean(bool v) { return wrong_type(v ? "true" : "false"); }
  bool number_integer(int64_t v) { return wrong_type(std::to_string(v)); }  // always negative
  bool number_float(double, const std::string& text) { return wrong_type(text); }
  bool number_unsigned(uint64_t v) {
    if (where_ != Where::kShape && where_ != Where::kOffsets) return wrong_type(std::to_string(v));
    if (v > static_cast<uint64_t>(INT64_MAX)) return wrong_type(std::to_string(v));
    const bool shape = where_ == Where::kShape;
    std::vector<int64_t>& list = shape ? entry_.shape : offsets_;
    if (list.size() >= (shape ? kMaxRank : 2)) {
      fail("a list in the header is too long",
           shape ? "a shape of at most " + std::to_string(kMaxRank) + " dimensions"
                 : "two data_offsets",
           "more");
    }
    list.push_back(static_cast<int64_t>(v));
    return true;
  }
  bool string(std::string& v) {
    if (where_ == Where::kMetadata) {
      fields_.metadata[key_] = std::move(v);
      return true;
    }
    if (where_ != Where::kTensor || key_ != "dtype") return wrong_type("a string");
    const std::optional<DType> dtype = dtype_from_name(v);
    if (!dtype) fail("a tensor has an unknown dtype", all_dtypes(), "\"" + v + "\"");
    entry_.dtype = *dtype;
    return true;
  }
  bool binary(nlohmann::json::binary_t&) { return false; }  // not in JSON text

  bool start_object(size_t) {
    if (where_ == Where::kStart) {
      where_ = Where::kTop;
    } else if (where_ == Where::kTop) {
      where_ = in_metadata_ ? Where::kMetadata : Where::kTensor;
    } else {
      wrong_type("an object");
    }
    return true;
  }
  bool key(std::string& k);
  bool end_object() {
    if (where_ == Where::kTensor) finish_entry();
    in_metadata_ = false;
    where_ = where_ == Where::kTop ? Where::kStart : Where::kTop;
    return true;
  }
  bool start_array(size_t) {
    if (where_ == Where::kTensor && key_ == "shape") {
      where_ = Where::kShape;
    } else if (where_ == Where::kTensor && key_ == "data_offsets") {
      where_ = Where::kOffsets;
    } else {
      wrong_type("a list");
    }
    return true;
  }
  bool end_array() {
    where_ = Where::kTensor;
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) {
    throw_not_json(kNotJson, file_, e.what(), kDamaged);
  }

  HeaderFields take() { return std::move(fields_); }

 private:
  enum class Where : uint8_t { kStart, kTop, kTensor, kShape, kOffsets, kMetadata };

  [[noreturn]] void fail(std::string_view what, std::string expected, std::string found) const {
    throw Error(ErrorCode::kInput, what,
                {.tensor = in_metadata_ ? "__metadata__" : entry_.name,
                 .file = file_,
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .fix = "the file is damaged or written by a faulty program: get it again"});
  }
  bool wrong_type(std::string_view found) const;
  void start_entry(std::string name);
  void finish_entry();

  std::string file_;
  HeaderFields fields_;
  SafetensorsEntry entry_;
  std::vector<int64_t> offsets_;
  std::string key_;  // the field of the tensor, or the key of the metadata
  Where where_ = Where::kStart;
  bool in_metadata_ = false;
  bool seen_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

bool HeaderSax::wrong_type(std::string_view found) const {
  const auto expected = [&]() -> std::string {
    switch (where_) {
      case Where::kStart:
        return "an object";
      case Where::kTop:
        return in_metadata_ ? "an object of strings" : "an object with dtype, shape, data_offsets";
      case Where::kMetadata:
        return "a string for \"" + key_ + "\"";
      case Where::kShape:
        return "whole numbers from 0 to 2^63-1 in shape";
      case Where::kOffsets:
        return "whole numbers from 0 to 2^63-1 in data_offsets";
      case Where::kTensor:
        return key_ == "dtype" ? "a string for dtype" : "a list of whole numbers for " + key_;
    }
    return "";
  };
  fail("the header has a value of the wrong type", expected(), std::string(found));
}

bool HeaderSax::key(std::string& k) {
  if (where_ == Where::kTop) {
    start_entry(std::move(k));
    return true;
  }
  if (where_ == Where::kMetadata) {
    if (fields_.metadata.contains(k)) fail("a key stands twice in the metadata", "", k);
    key_ = std::move(k);
    return true;
  }
  bool* const seen = k == "dtype"          ? &has_dtype_
                     : k == "shape"        ? &has_shape_
                     : k == "data_offsets" ? &has_offsets_
                                           : nullptr;
  if (seen == nullptr) {
    fail("a tensor has an unknown field", "dtype, shape and data_offsets only", "\"" + k + "\"");
  }
  if (std::exchange(*seen, true)) fail("a field of a tensor stands twice", "", "\"" + k + "\"");
  key_ = std::move(k);
  return true;
}

void HeaderSax::start_entry(std::string name) {
  in_metadata_ = name == "__metadata__";
  if (in_metadata_) {
    if (std::exchange(seen_metadata_, true)) fail("__metadata__ stands twice", "", "");
    return;
  }
  entry_ = SafetensorsEntry();
  entry_.name = std::move(name);
  offsets_.clear();
  has_dtype_ = has_shape_ = has_offsets_ = false;
}

void HeaderSax::finish_entry() {
  if (!has_dtype_) fail("a tensor lacks a field", "dtype", "none");
  if (!has_shape_) fail("a tensor lacks a field", "shape", "none");
  if (!has_offsets_) fail("a tensor lacks a field", "data_offsets", "none");
  if (offsets_.size() != 2 || offsets_[0] > offsets_[1]) {
    fail("data_offsets are not a range", "[begin,end] with begin <= end", to_string(offsets_));
  }
  int64_t bytes = dtype_size(entry_.dtype);
  for (const int64_t dim : entry_.shape) {
    if (__builtin_mul_overflow(bytes, dim, &bytes)) {
      fail("the shape of a tensor overflows", "less than 2^63 bytes", to_string(entry_.shape));
    }
  }
  if (bytes != offsets_[1] - offsets_[0]) {
    fail("the byte range of a tensor does not fit its shape and dtype",
         std::to_string(bytes) + " bytes for " + std::string(dtype_name(entry_.dtype)) + " " +
             to_string(entry_.shape),
         std::to_string(offsets_[1] - offsets_[0]));
  }
  entry_.begin = offsets_[0];
  entry_.end = offsets_[1];
  fields_.tensors.push_back(std::move(entry_));
  entry_ = SafetensorsEntry();
}

}  // namespace

HeaderFields read_header_json(std::string_view json, std::string_view file_name) {
  reject_zero_bytes(json, kNotJson, file_name, kDamaged);
  HeaderSax sax(file_name);
  nlohmann::json::sax_parse(json.begin(), json.end(), &sax);
  return sax.take();
}

}  // namespace mezzotint
