// A table of text cells, for terminals and for Markdown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mezzotint::cli {

enum class Align : uint8_t { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

struct TextTable {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as columns
};

// Lines without trailing blanks, each ending in a newline; cells are made printable.
std::string to_text(const TextTable& table);
// A Markdown table; '|' in cells is escaped.
std::string to_markdown(const TextTable& table);

}  // namespace mezzotint::cli
