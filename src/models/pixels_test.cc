#include "models/pixels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(MZ_SOURCE_DIR) / "demo";

TEST(PixelLayout, ReadsTheDemoFile) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  EXPECT_EQ(layout.channels, 4);
  EXPECT_EQ(layout.token_channels(), 64);
  EXPECT_EQ(layout.latent_channels(), 16);
  EXPECT_EQ(layout.grid() * layout.unshuffle * 2, layout.size);
  EXPECT_EQ(layout.low, -1.0f);
  EXPECT_EQ(layout.high, 1.0f);
  ASSERT_EQ(layout.colors.size(), 8u);
  EXPECT_EQ(layout.colors[0].name, "red");
  EXPECT_FLOAT_EQ(layout.colors[0].rgb[0], 230.0f / 255);
}

constexpr const char* kGood = R"({"channels": "RGB", "size": 8, "value_range": [-1, 1],
  "unshuffle": 1, "latent_shape": [3, 8, 8], "text_tokens": 4,
  "colors": [{"name": "red", "rgb": [255, 0, 0]}], "default_steps": 20, "guidance_scale": 2.0})";

std::string message_of(const std::string& from, const std::string& to) {
  std::string text = kGood;
  if (!from.empty()) text.replace(text.find(from), from.size(), to);
  const fs::path folder = testing::fresh_folder(testing::scratch_path("pixels"));
  testing::write_text(folder / "pixels.json", text);
  try {
    read_pixel_layout(folder);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(PixelLayout, NamesFileAndKeyOfAFault) {
  EXPECT_EQ(message_of("", ""), "no error");
  const std::pair<std::string, std::string> faults[] = {
      {R"("RGB")", R"("CMYK")"},           {R"("size": 8)", R"("size": 7)"},
      {"[3, 8, 8]", "[4, 8, 8]"},          {"[-1, 1]", "[1, -1]"},
      {"[255, 0, 0]", "[256, 0, 0]"},      {R"("text_tokens": 4)", R"("text_tokens": -4)"},
      {R"("default_steps")", R"("steps")"}};
  for (const auto& [from, to] : faults) {
    const std::string message = message_of(from, to);
    EXPECT_NE(message.find("pixels.json"), message.npos) << to << ": " << message;
    EXPECT_NE(message.find("key '"), message.npos) << to << ": " << message;
  }
}

TEST(PackLatent, PutsPatchesOfAChannelTogether) {
  // One channel, 2 x 4 latent pixels 0 ... 7: two tokens.
  const std::vector<float> latent{0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> tokens(8), back(8);
  pack_latent(latent.data(), 1, 1, 2, tokens.data());
  EXPECT_EQ(tokens, (std::vector<float>{0, 1, 4, 5, 2, 3, 6, 7}));
  unpack_latent(tokens.data(), 1, 1, 2, back.data());
  EXPECT_EQ(back, latent);
}

TEST(PackLatent, KeepsChannelsApart) {
  const std::vector<float> latent{0, 1, 2, 3, 10, 11, 12, 13};  // [2, 2, 2]
  std::vector<float> tokens(8);
  pack_latent(latent.data(), 2, 1, 1, tokens.data());
  EXPECT_EQ(tokens, (std::vector<float>{0, 1, 2, 3, 10, 11, 12, 13}));
}

// The way of pixels.json, written out: unpack to a latent, then pixel shuffle.
TEST(TokensToImages, FollowsTheWayOfTheFile) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  const int64_t grid = layout.grid(), side = layout.latent_size(), u = layout.unshuffle;
  Tensor tokens = testing::named_noise("tokens", 1, {1, grid * grid, layout.token_channels()});
  const std::vector<Image> images = tokens_to_images(layout, tokens);
  ASSERT_EQ(images.size(), 1u);
  std::vector<float> latent(static_cast<size_t>(tokens.size()));
  unpack_latent(tokens.data<float>(), layout.latent_channels(), grid, grid, latent.data());
  for (int64_t c = 0; c < layout.channels; ++c) {
    for (int64_t y = 0; y < layout.size; ++y) {
      for (int64_t x = 0; x < layout.size; ++x) {
        const int64_t channel = c * u * u + (y % u) * u + x % u;
        const int64_t index = (channel * side + y / u) * side + x / u;
        const float unit = (latent[static_cast<size_t>(index)] + 1) / 2;
        ASSERT_FLOAT_EQ(images[0].at(x, y)[c], std::clamp(unit, 0.0f, 1.0f));
      }
    }
  }
}

TEST(TokensToImages, IsInvertedByImagesToTokens) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  const int64_t tokens_count = layout.grid() * layout.grid();
  Tensor tokens = testing::named_noise("tokens", 2, {2, tokens_count, layout.token_channels()});
  for (float& v : std::span(tokens.mutable_data<float>(), static_cast<size_t>(tokens.size()))) {
    v = std::clamp(v, -1.0f, 1.0f);
  }
  const Tensor back = images_to_tokens(layout, tokens_to_images(layout, tokens));
  ASSERT_EQ(back.shape(), tokens.shape());
  EXPECT_LE(testing::relative_l2(testing::values_of(back), testing::values_of(tokens)), 1e-6);
}

TEST(TokensToImages, RefusesAnotherShape) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  EXPECT_THROW(tokens_to_images(layout, Tensor::allocate(DType::kF32, {1, 3, 64})), Error);
}

// background + alpha (object - background), as the training images are made.
Image blended(const PixelLayout& layout, size_t object, size_t background) {
  Image image(32, 32, 4);
  for (int64_t y = 0; y < 32; ++y) {
    for (int64_t x = 0; x < 32; ++x) {
      const bool inside = x >= 8 && x < 24 && y >= 8 && y < 24;
      const float alpha = inside ? 0.25f + 0.02f * static_cast<float>(x) : 0.0f;
      for (size_t c = 0; c < 3; ++c) {
        const float b = layout.colors[background].rgb[c];
        image.at(x, y)[c] = b + alpha * (layout.colors[object].rgb[c] - b);
      }
      image.at(x, y)[3] = alpha;
    }
  }
  return image;
}

TEST(MeasureColors, FindsEveryPairOfThePalette) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  for (size_t object = 0; object < layout.colors.size(); ++object) {
    for (size_t background = 0; background < layout.colors.size(); ++background) {
      const ShownColors found = measure_colors(blended(layout, object, background), layout.colors);
      EXPECT_EQ(found.object, static_cast<int64_t>(object));
      EXPECT_EQ(found.background, static_cast<int64_t>(background));
    }
  }
}

TEST(MeasureColors, SeesNoObjectWithoutAlpha) {
  const PixelLayout layout = read_pixel_layout(kDemo);
  EXPECT_EQ(measure_colors(Image(32, 32, 4, 0.0f), layout.colors).object, -1);
  EXPECT_THROW(measure_colors(Image(32, 32, 3), layout.colors), Error);
}

}  // namespace
}  // namespace mezzotint
