#include "models/image_io.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

TEST(Png, RoundsAndClampsToBytes) {
  Image image(4, 1, 3, 0.0f);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  image.values = {-1.0f, 0.0f, 2.0f, 0.5f, 0.498f, 1.0f, nan, 0.25f, 0.75f, 0.1f, 0.2f, 0.3f};
  const fs::path file = testing::scratch_path("rounding.png");
  write_png(file, image);
  const Image back = read_png(file);
  const std::vector<int> expected{0, 0, 255, 128, 127, 255, 0, 64, 191, 26, 51, 77};
  ASSERT_EQ(back.values.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(std::lround(back.values[i] * 255), expected[i]) << i;
  }
}

TEST(Png, KeepsEveryByteOfEveryFormat) {
  for (const int64_t channels : {1, 3, 4}) {
    Image image(16, 16, channels);
    for (size_t i = 0; i < image.values.size(); ++i) {
      image.values[i] = static_cast<float>(i % 256) / 255.0f;
    }
    const fs::path file = testing::scratch_path("formats.png");
    write_png(file, image);
    EXPECT_EQ(read_png(file), image) << channels;
  }
}

TEST(Png, RefusesWhatItCannotWriteOrRead) {
  EXPECT_THROW(encode_png(Image(2, 2, 2)), Error);
  EXPECT_THROW(encode_png(Image(0, 2, 3)), Error);
  EXPECT_THROW(write_png(testing::scratch_path("no_such_folder/x.png"), Image(2, 2, 3)), Error);
  EXPECT_THROW(read_png(testing::scratch_path("no_such_file.png")), Error);
}

TEST(Base64, MatchesRfc4648) {
  const std::pair<std::string_view, std::string_view> cases[] = {{"", ""},
                                                                 {"f", "Zg=="},
                                                                 {"fo", "Zm8="},
                                                                 {"foo", "Zm9v"},
                                                                 {"foob", "Zm9vYg=="},
                                                                 {"fooba", "Zm9vYmE="},
                                                                 {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(base64(std::as_bytes(std::span(text))), expected);
  }
}

TEST(Png, MakesADataUri) {
  EXPECT_TRUE(png_data_uri(Image(1, 1, 3)).starts_with("data:image/png;base64,iVBORw0KGgo"));
}

}  // namespace
}  // namespace mezzotint
