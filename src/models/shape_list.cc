#include "models/shape_list.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

using Words = std::vector<std::string>;

// One file, line by line.
class ShapeReader {
 public:
  ShapeReader(const std::filesystem::path& file, std::string_view resolution)
      : file_(file.string()) {
    list_.resolution = resolution;
  }

  ShapeList read() {
    std::error_code ignored;
    std::ifstream in;
    if (std::filesystem::is_regular_file(file_, ignored)) in.open(file_);
    if (!in.is_open()) throw Error(ErrorCode::kInput, "the shapes cannot be read", {.file = file_});
    std::string text;
    while (std::getline(in, text)) {
      ++line_;
      std::istringstream stream(text.substr(0, text.find('#')));
      const Words words(std::istream_iterator<std::string>(stream), {});
      if (!words.empty()) read_line(words);
    }
    if (list_.linears.empty() && list_.attentions.empty()) {
      throw Error(ErrorCode::kInput, "the shapes hold no linear and no attention", {.file = file_});
    }
    return std::move(list_);
  }

 private:
  [[noreturn]] void fail(const char* expected, std::string found) const {
    throw Error(ErrorCode::kInput, fmt::format("line {} of the shapes is damaged", line_),
                {.file = file_, .expected = expected, .found = std::move(found)});
  }

  void read_line(const Words& words) {
    const std::string& kind = words.front();
    if (kind == "model" && words.size() == 2) {
      list_.model = words[1];
    } else if (kind == "tokens" && words.size() >= 4 && words.size() % 2 == 0) {
      read_tokens(words);
    } else if (kind == "linear" && words.size() == 6) {
      list_.linears.push_back({.name = words[5],
                               .m = rows(words[1]),
                               .n = number(words[2]),
                               .k = number(words[3]),
                               .calls = number(words[4])});
    } else if (kind == "attention" && words.size() == 7) {
      list_.attentions.push_back({.name = words[6],
                                  .q = rows(words[1]),
                                  .kv = rows(words[2]),
                                  .heads = number(words[3]),
                                  .dim = number(words[4]),
                                  .calls = number(words[5])});
    } else {
      fail(
          "model NAME | tokens RESOLUTION (SYMBOL ROWS)... | linear ROWS N K CALLS NAME | "
          "attention Q KV HEADS DIM CALLS NAME",
          fmt::format("{}", fmt::join(words, " ")));
    }
  }

  void read_tokens(const Words& words) {
    list_.resolutions.push_back(words[1]);
    if (list_.resolution.empty()) list_.resolution = words[1];
    if (list_.resolution != words[1]) return;
    symbols_ = {{"cond", 1}};
    int64_t joint = 0;
    for (size_t i = 2; i < words.size(); i += 2) {
      symbols_[words[i]] = number(words[i + 1]);
      joint += number(words[i + 1]);
    }
    symbols_["joint"] = joint;
  }

  int64_t rows(const std::string& word) const {
    check_resolution();
    const auto it = symbols_.find(word);
    return it == symbols_.end() ? number(word) : it->second;
  }

  int64_t number(const std::string& word) const {
    int64_t value = 0;
    const char* end = word.data() + word.size();
    const auto parsed = std::from_chars(word.data(), end, value);
    if (parsed.ec != std::errc() || parsed.ptr != end || value < 1 || value > kLargest) {
      fail("a number from 1 to 10,000,000", word);
    }
    return value;
  }

  // Known once the first shape follows the resolutions.
  void check_resolution() const {
    const bool known = std::ranges::count(list_.resolutions, list_.resolution) != 0;
    if (known || list_.resolution.empty()) return;
    throw Error(ErrorCode::kUsage, "the shapes have no such resolution",
                {.file = file_,
                 .expected = fmt::format("{}", fmt::join(list_.resolutions, ", ")),
                 .found = list_.resolution});
  }

  static constexpr int64_t kLargest = 10'000'000;

  std::string file_;
  int line_ = 0;
  std::map<std::string, int64_t> symbols_;
  ShapeList list_;
};

// Adds the calls of each shape to the first that is alike but for the name.
template <typename Shape>
std::vector<Shape> merged(const std::vector<Shape>& shapes) {
  std::vector<Shape> kept;
  for (const Shape& shape : shapes) {
    const auto it = std::ranges::find_if(kept, [&](Shape other) {
      other.name = shape.name;
      other.calls = shape.calls;
      return other == shape;
    });
    if (it == kept.end()) {
      kept.push_back(shape);
    } else {
      it->calls += shape.calls;
    }
  }
  return kept;
}

}  // namespace

ShapeList read_shape_list(const std::filesystem::path& file, std::string_view resolution) {
  return ShapeReader(file, resolution).read();
}

std::vector<LinearShape> distinct(const std::vector<LinearShape>& shapes) { return merged(shapes); }

std::vector<AttentionCallShape> distinct(const std::vector<AttentionCallShape>& shapes) {
  return merged(shapes);
}

}  // namespace mezzotint
