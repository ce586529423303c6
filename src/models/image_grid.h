// Images side by side, with captions in a built-in 5 x 7 font.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/image.h"

namespace mezzotint {

struct GridOptions {
  int64_t columns = 1;
  int64_t scale = 1;                         // every pixel becomes scale x scale
  int64_t gap = 4;                           // output pixels between and around the cells
  std::vector<std::string> row_labels{};     // left of the rows; empty: none
  std::vector<std::string> column_labels{};  // above, cut to the column; empty: none
};

// RGB on white. Images fill rows from the left; all must have one size.
Image compose_grid(std::span<const Image> images, const GridOptions& options);

// Width of `text` in pixels at scale 1; the height is kTextHeight. Lower case is drawn as upper
// case, a character without a glyph as a box.
int64_t text_width(std::string_view text) noexcept;
constexpr int64_t kTextHeight = 7;
// Black; what falls outside the image is cut off.
void draw_text(Image& image, int64_t x, int64_t y, int64_t scale, std::string_view text);

}  // namespace mezzotint
