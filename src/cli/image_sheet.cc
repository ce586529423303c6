#include "cli/image_sheet.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace mezzotint::cli {
namespace {

constexpr float kPaper = 1.0f;

void paste(const Image& image, int64_t left, int64_t top, int64_t zoom, Image& sheet) {
  MZ_CHECK(image.channels == sheet.channels);
  for (int64_t y = 0; y < image.height * zoom; ++y) {
    for (int64_t x = 0; x < image.width * zoom; ++x) {
      std::copy_n(image.at(x / zoom, y / zoom), image.channels, sheet.at(left + x, top + y));
    }
  }
}

}  // namespace

Image enlarged_difference(const Image& a, const Image& b, float factor) {
  MZ_CHECK(a.values.size() == b.values.size());
  Image difference = a;
  for (size_t i = 0; i < a.values.size(); ++i) {
    difference.values[i] = std::min(1.0f, factor * std::abs(a.values[i] - b.values[i]));
  }
  return difference;
}

Image image_sheet(const std::vector<std::vector<Image>>& rows, int64_t zoom, int64_t gap) {
  MZ_CHECK(!rows.empty() && !rows.front().empty());
  const Image& first = rows.front().front();
  size_t columns = 0;
  for (const auto& row : rows) columns = std::max(columns, row.size());
  const int64_t cell_width = first.width * zoom + gap;
  const int64_t cell_height = first.height * zoom + gap;
  Image sheet(static_cast<int64_t>(columns) * cell_width + gap,
              static_cast<int64_t>(rows.size()) * cell_height + gap, first.channels, kPaper);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size(); ++c) {
      paste(rows[r][c], gap + static_cast<int64_t>(c) * cell_width,
            gap + static_cast<int64_t>(r) * cell_height, zoom, sheet);
    }
  }
  return sheet;
}

}  // namespace mezzotint::cli
