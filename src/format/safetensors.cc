#include "format/safetensors.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "format/safetensors_sax.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int64_t kLengthField = 8;
constexpr int64_t kMinHeader = 2;  // "{}"

constexpr std::string_view kDamaged = "the file is damaged: copy or download it again";

[[noreturn]] void fail(std::string_view what, ErrorDetails details) {
  throw Error(ErrorCode::kInput, what, std::move(details));
}

// Other formats that people hand in, by their first bytes.
struct ForeignFormat {
  std::string_view magic;
  std::string_view found;
  std::string_view fix;
};

constexpr std::string_view kConvert = "convert it to safetensors first";

constexpr ForeignFormat kForeignFormats[] = {
    {"version https://git-lfs", "a Git LFS pointer", "run git lfs pull"},
    {"GGUF", "a GGUF file", kConvert},
    {"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)", kConvert},
    {"\x80\x02", "a Python pickle", kConvert},
    {"<!DOCTYPE", "a web page", "download the file again, signed in if need be"},
    {"<html", "a web page", "download the file again, signed in if need be"},
};

void reject_foreign_formats(std::span<const std::byte> bytes, std::string_view file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const ForeignFormat& format : kForeignFormats) {
    if (!text.starts_with(format.magic)) continue;
    // "PK.." and the pickle magic could also be the length of a header; then a '{' follows.
    if (text.size() > kLengthField && text[kLengthField] == '{') continue;
    fail("this is not a safetensors file", {.file = std::string(file),
                                            .found = std::string(format.found),
                                            .fix = std::string(format.fix)});
  }
}

// The header's JSON, after all checks that need no parsing.
std::string_view header_text(std::span<const std::byte> bytes, int64_t file_size,
                             std::string_view file) {
  reject_foreign_formats(bytes, file);
  const auto given = static_cast<int64_t>(bytes.size());
  if (std::min(given, file_size) < kLengthField + kMinHeader) {
    fail("the file is too short for a safetensors header",
         {.file = std::string(file),
          .expected = "at least " + std::to_string(kLengthField + kMinHeader) + " bytes",
          .found = std::to_string(std::min(given, file_size)),
          .fix = std::string(kDamaged)});
  }
  uint64_t length = 0;
  for (int i = kLengthField - 1; i >= 0; --i) {
    length = (length << 8) | std::to_integer<uint64_t>(bytes[static_cast<size_t>(i)]);
  }
  if (length < kMinHeader || length > kMaxSafetensorsHeader) {
    fail("the header length is out of range",
         {.file = std::string(file),
          .expected = std::to_string(kMinHeader) + " to " + std::to_string(kMaxSafetensorsHeader),
          .found = std::to_string(length),
          .fix = "this is not a safetensors file, or it is damaged"});
  }
  const auto header = static_cast<int64_t>(length);
  if (header > std::min(given, file_size) - kLengthField) {
    fail("the header is longer than the file",
         {.file = std::string(file),
          .expected = std::to_string(header) + " bytes of header",
          .found = std::to_string(std::min(given, file_size) - kLengthField),
          .fix = std::string(kDamaged)});
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthField,
                              static_cast<size_t>(header));
  if (text.front() != '{') {
    fail("the header does not begin with '{'",
         {.file = std::string(file), .fix = "this is not a safetensors file, or it is damaged"});
  }
  return text;
}

void check_unique_names(const std::vector<SafetensorsEntry>& tensors, std::string_view file) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const SafetensorsEntry& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin == names.end()) return;
  fail("a tensor stands twice in the header",
       {.tensor = std::string(*twin),
        .file = std::string(file),
        .fix = "write the file again without the duplicate"});
}

// `tensors` are sorted by offset. Together they must be exactly the rest of the file.
void check_coverage(const std::vector<SafetensorsEntry>& tensors, int64_t data_bytes,
                    std::string_view file) {
  for (const SafetensorsEntry& t : tensors) {
    if (t.end <= data_bytes) continue;
    fail("the data of a tensor lies outside the file",
         {.tensor = t.name,
          .file = std::string(file),
          .expected = "at most " + std::to_string(data_bytes) + " bytes of data",
          .found = "an end at " + std::to_string(t.end),
          .fix = "the file is truncated: copy or download it again"});
  }
  int64_t covered = 0;
  for (const SafetensorsEntry& t : tensors) {
    if (t.begin != covered) {
      fail(t.begin < covered ? "two tensors overlap" : "bytes between two tensors are unused",
           {.tensor = t.name,
            .file = std::string(file),
            .expected = "a begin at " + std::to_string(covered),
            .found = std::to_string(t.begin),
            .fix = "write the file again with a correct program"});
    }
    covered = t.end;
  }
  if (covered != data_bytes) {
    fail("the file is longer than its tensors",
         {.file = std::string(file),
          .expected = std::to_string(covered) + " bytes of data",
          .found = std::to_string(data_bytes),
          .fix = std::string(kDamaged)});
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes, int64_t file_size,
                                           std::string_view file_name) {
  const std::string_view json = header_text(bytes, file_size, file_name);
  HeaderFields fields = read_header_json(json, file_name);
  check_unique_names(fields.tensors, file_name);

  SafetensorsHeader header;
  header.tensors = std::move(fields.tensors);
  header.metadata = std::move(fields.metadata);
  header.data_start = kLengthField + static_cast<int64_t>(json.size());
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  check_coverage(header.tensors, file_size - header.data_start, file_name);
  return header;
}

}  // namespace mezzotint
