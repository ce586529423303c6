#include "models/image_grid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(ImageGrid, PlacesCellsRowByRow) {
  const std::vector<Image> images{Image(2, 1, 3, 0.0f), Image(2, 1, 3, 0.25f),
                                  Image(2, 1, 3, 0.5f)};
  const Image grid = compose_grid(images, {.columns = 2, .scale = 3, .gap = 1});
  ASSERT_EQ(grid.width, 1 + 2 * (6 + 1));
  ASSERT_EQ(grid.height, 1 + 2 * (3 + 1));
  EXPECT_EQ(*grid.at(0, 0), 1.0f);  // gap
  EXPECT_EQ(*grid.at(1, 1), 0.0f);
  EXPECT_EQ(*grid.at(6, 3), 0.0f);
  EXPECT_EQ(*grid.at(7, 1), 1.0f);
  EXPECT_EQ(*grid.at(8, 1), 0.25f);
  EXPECT_EQ(*grid.at(1, 5), 0.5f);
  EXPECT_EQ(*grid.at(8, 5), 1.0f);  // no fourth image
}

TEST(ImageGrid, DropsAlpha) {
  Image rgba(1, 1, 4);
  rgba.values = {0.1f, 0.2f, 0.3f, 0.0f};
  const Image grid = compose_grid(std::vector<Image>{rgba}, {.columns = 1, .gap = 0});
  EXPECT_EQ(grid.values, (std::vector<float>{0.1f, 0.2f, 0.3f}));
}

TEST(ImageGrid, MakesRoomForLabels) {
  const std::vector<Image> images{Image(8, 8, 3, 1.0f)};
  const Image plain = compose_grid(images, {.columns = 1});
  const Image labelled =
      compose_grid(images, {.columns = 1, .row_labels = {"W8A16"}, .column_labels = {"a"}});
  EXPECT_EQ(labelled.width - plain.width, text_width("W8A16") * 2 + 4);
  EXPECT_EQ(labelled.height - plain.height, kTextHeight * 2 + 4);
  EXPECT_GT(std::ranges::count(labelled.values, 0.0f), 0);
}

TEST(ImageGrid, RefusesImagesOfDifferentSizes) {
  const std::vector<Image> images{Image(2, 1, 3), Image(1, 2, 3)};
  EXPECT_THROW(compose_grid(images, {.columns = 2}), Error);
  EXPECT_THROW(compose_grid({}, {.columns = 2}), Error);
}

TEST(DrawText, DrawsTheGlyphAndNothingOutside) {
  Image image(5, 7, 1, 1.0f);
  draw_text(image, 0, 0, 1, "l");  // as L: left column and bottom row
  for (int64_t y = 0; y < 7; ++y) {
    for (int64_t x = 0; x < 5; ++x) {
      EXPECT_EQ(*image.at(x, y), x == 0 || y == 6 ? 0.0f : 1.0f) << x << ',' << y;
    }
  }
  draw_text(image, -3, 5, 2, "MZ");  // cut off on every side
}

}  // namespace
}  // namespace mezzotint
