#include "cli/text_table.h"

#include <algorithm>
#include <string_view>

#include "cli/text.h"

namespace mezzotint::cli {
namespace {

// Columns a terminal needs: UTF-8 continuation bytes take none.
size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string padded(const std::string& cell, size_t width, Align align) {
  const std::string blanks(width - std::min(width, display_width(cell)), ' ');
  return align == Align::kRight ? blanks + cell : cell + blanks;
}

std::string text_line(const std::vector<std::string>& cells, const std::vector<size_t>& widths,
                      const std::vector<Column>& columns) {
  std::string line;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (i > 0) line += "  ";
    line += padded(cells[i], widths[i], columns[i].align);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string markdown_cell(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string to_text(const TextTable& table) {
  std::vector<size_t> widths;
  std::vector<std::string> titles;
  for (const Column& column : table.columns) {
    titles.push_back(column.title);
    widths.push_back(display_width(column.title));
  }
  std::vector<std::vector<std::string>> rows = table.rows;
  for (auto& row : rows) {
    for (size_t i = 0; i < widths.size(); ++i) {
      row[i] = printable(row[i]);
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  std::string text = text_line(titles, widths, table.columns);
  for (const auto& row : rows) text += text_line(row, widths, table.columns);
  return text;
}

std::string to_markdown(const TextTable& table) {
  std::string text = "|";
  std::string rule = "|";
  for (const Column& column : table.columns) {
    text += " " + markdown_cell(column.title) + " |";
    rule += column.align == Align::kRight ? "---:|" : "---|";
  }
  text += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    text += "|";
    for (const std::string& cell : row) text += " " + markdown_cell(cell) + " |";
    text += "\n";
  }
  return text;
}

}  // namespace mezzotint::cli
