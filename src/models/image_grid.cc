#include "models/image_grid.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int64_t kGlyphWidth = 5;
constexpr int64_t kAdvance = kGlyphWidth + 1;
constexpr int64_t kTextScale = 2;

// Seven rows from the top; bit 4 is the left column.
struct Glyph {
  char character;
  std::array<uint8_t, kTextHeight> rows;
};

constexpr Glyph kGlyphs[] = {
    {' ', {0, 0, 0, 0, 0, 0, 0}},
    {'0', {0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e}},
    {'1', {0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    {'2', {0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f}},
    {'3', {0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e}},
    {'4', {0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02}},
    {'5', {0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e}},
    {'6', {0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e}},
    {'7', {0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08}},
    {'8', {0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e}},
    {'9', {0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c}},
    {'A', {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
    {'B', {0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e}},
    {'C', {0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e}},
    {'D', {0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e}},
    {'E', {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f}},
    {'F', {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10}},
    {'G', {0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f}},
    {'H', {0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
    {'I', {0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    {'J', {0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c}},
    {'K', {0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11}},
    {'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f}},
    {'M', {0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11}},
    {'N', {0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11}},
    {'O', {0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}},
    {'P', {0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10}},
    {'Q', {0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d}},
    {'R', {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11}},
    {'S', {0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e}},
    {'T', {0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04}},
    {'U', {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}},
    {'V', {0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04}},
    {'W', {0x11, 0x11, 0x11, 0x15, 0x15, 0x15, 0x0a}},
    {'X', {0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11}},
    {'Y', {0x11, 0x11, 0x0a, 0x04, 0x04, 0x04, 0x04}},
    {'Z', {0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f}},
    {'.', {0, 0, 0, 0, 0, 0x0c, 0x0c}},
    {',', {0, 0, 0, 0, 0x0c, 0x04, 0x08}},
    {':', {0, 0x0c, 0x0c, 0, 0x0c, 0x0c, 0}},
    {'-', {0, 0, 0, 0x1f, 0, 0, 0}},
    {'+', {0, 0x04, 0x04, 0x1f, 0x04, 0x04, 0}},
    {'_', {0, 0, 0, 0, 0, 0, 0x1f}},
    {'/', {0, 0x01, 0x02, 0x04, 0x08, 0x10, 0}},
    {'%', {0x18, 0x19, 0x02, 0x04, 0x08, 0x13, 0x03}},
    {'(', {0x02, 0x04, 0x08, 0x08, 0x08, 0x04, 0x02}},
    {')', {0x08, 0x04, 0x02, 0x02, 0x02, 0x04, 0x08}},
    {'=', {0, 0, 0x1f, 0, 0x1f, 0, 0}},
};
constexpr std::array<uint8_t, kTextHeight> kBox{0x1f, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1f};

const std::array<uint8_t, kTextHeight>& glyph_of(char c) {
  const auto upper = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const Glyph* found = std::ranges::find(kGlyphs, upper, &Glyph::character);
  return found == std::end(kGlyphs) ? kBox : found->rows;
}

void fill_square(Image& image, int64_t left, int64_t top, int64_t side, float value) {
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + side, image.height); ++y) {
    for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + side, image.width); ++x) {
      std::fill_n(image.at(x, y), image.channels, value);
    }
  }
}

void paste_scaled(const Image& from, int64_t scale, int64_t left, int64_t top, Image& to) {
  for (int64_t y = 0; y < from.height * scale; ++y) {
    for (int64_t x = 0; x < from.width * scale; ++x) {
      std::copy_n(from.at(x / scale, y / scale), 3, to.at(left + x, top + y));
    }
  }
}

int64_t widest(const std::vector<std::string>& labels) {
  int64_t width = 0;
  for (const std::string& label : labels) width = std::max(width, text_width(label) * kTextScale);
  return width;
}

void check(std::span<const Image> images, const GridOptions& options) {
  const auto same_size = [&](const Image& image) {
    return image.width == images.front().width && image.height == images.front().height;
  };
  if (images.empty() || options.columns < 1 || options.scale < 1 || options.gap < 0 ||
      !std::ranges::all_of(images, same_size)) {
    throw Error(ErrorCode::kUsage, "images of a grid",
                {.expected = "at least one image, all of one size, in at least one column",
                 .found = fmt::format("{} images, {} columns, scale {}, gap {}", images.size(),
                                      options.columns, options.scale, options.gap)});
  }
}

}  // namespace

int64_t text_width(std::string_view text) noexcept {
  return text.empty() ? 0 : static_cast<int64_t>(text.size()) * kAdvance - 1;
}

void draw_text(Image& image, int64_t x, int64_t y, int64_t scale, std::string_view text) {
  for (const char character : text) {
    const std::array<uint8_t, kTextHeight>& glyph = glyph_of(character);
    for (int64_t row = 0; row < kTextHeight; ++row) {
      for (int64_t col = 0; col < kGlyphWidth; ++col) {
        const int bit = glyph[static_cast<size_t>(row)] >> (kGlyphWidth - 1 - col) & 1;
        if (bit != 0) fill_square(image, x + col * scale, y + row * scale, scale, 0.0f);
      }
    }
    x += kAdvance * scale;
  }
}

Image compose_grid(std::span<const Image> images, const GridOptions& options) {
  check(images, options);
  const int64_t gap = options.gap;
  const int64_t cell_width = images.front().width * options.scale;
  const int64_t cell_height = images.front().height * options.scale;
  const int64_t rows =
      (static_cast<int64_t>(images.size()) + options.columns - 1) / options.columns;
  const int64_t label_width = widest(options.row_labels);
  const int64_t left = gap + (label_width > 0 ? label_width + gap : 0);
  const int64_t top = gap + (options.column_labels.empty() ? 0 : kTextHeight * kTextScale + gap);
  Image grid(left + options.columns * (cell_width + gap), top + rows * (cell_height + gap), 3,
             1.0f);
  for (size_t i = 0; i < images.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    paste_scaled(to_rgb(images[i]), options.scale,
                 left + index % options.columns * (cell_width + gap),
                 top + index / options.columns * (cell_height + gap), grid);
  }
  for (size_t row = 0; row < options.row_labels.size(); ++row) {
    const int64_t y = top + static_cast<int64_t>(row) * (cell_height + gap) +
                      (cell_height - kTextHeight * kTextScale) / 2;
    draw_text(grid, gap, y, kTextScale, options.row_labels[row]);
  }
  const auto fitting = static_cast<size_t>((cell_width + gap) / (kAdvance * kTextScale));
  for (size_t column = 0; column < options.column_labels.size(); ++column) {
    draw_text(grid, left + static_cast<int64_t>(column) * (cell_width + gap), gap, kTextScale,
              options.column_labels[column].substr(0, fitting));
  }
  return grid;
}

}  // namespace mezzotint
