#include "models/image_io.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string_view>

#include <fmt/format.h>
#include <png.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr float kMaxByte = 255.0f;
// A side that libpng's own limit allows as well.
constexpr int64_t kMaxSide = 1'000'000;

uint32_t png_format(const Image& image) {
  if (image.channels == 1) return PNG_FORMAT_GRAY;
  if (image.channels == 3) return PNG_FORMAT_RGB;
  if (image.channels == 4) return PNG_FORMAT_RGBA;
  throw Error(ErrorCode::kUsage, "channels of a PNG image",
              {.expected = "1, 3 or 4", .found = fmt::format("{}", image.channels)});
}

png_image new_png() {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  return png;
}

std::vector<uint8_t> to_bytes(const Image& image) {
  std::vector<uint8_t> bytes(image.values.size());
  std::ranges::transform(image.values, bytes.begin(), [](float value) {
    // NaN becomes 0: max() returns its first argument then.
    const float unit = std::min(std::max(0.0f, value), 1.0f);
    return static_cast<uint8_t>(std::lround(unit * kMaxByte));
  });
  return bytes;
}

}  // namespace

std::vector<std::byte> encode_png(const Image& image) {
  if (image.width < 1 || image.height < 1 || image.width > kMaxSide || image.height > kMaxSide) {
    throw Error(ErrorCode::kUsage, "size of a PNG image",
                {.expected = fmt::format("1 to {} per side", kMaxSide),
                 .found = fmt::format("{} x {}", image.width, image.height)});
  }
  png_image png = new_png();
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = png_format(image);
  const std::vector<uint8_t> pixels = to_bytes(image);
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<std::byte> bytes(size);
  if (png_image_write_to_memory(&png, bytes.data(), &size, 0, pixels.data(), 0, nullptr) == 0) {
    throw Error(ErrorCode::kInternal, "cannot encode a PNG image", {.found = png.message});
  }
  bytes.resize(size);
  return bytes;
}

void write_png(const std::filesystem::path& file, const Image& image) {
  const std::vector<std::byte> bytes = encode_png(image);
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) {
    throw Error(ErrorCode::kResources, "cannot write the image",
                {.file = file.string(), .fix = "check the folder and the free space"});
  }
}

Image read_png(const std::filesystem::path& file) {
  png_image png = new_png();
  const auto refuse = [&] {
    throw Error(ErrorCode::kInput, "cannot read the PNG image",
                {.file = file.string(), .found = png.message});
  };
  if (png_image_begin_read_from_file(&png, file.string().c_str()) == 0) refuse();
  const bool alpha = (png.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  const bool color = (png.format & PNG_FORMAT_FLAG_COLOR) != 0;
  Image image(png.width, png.height, alpha ? 4 : color ? 3 : 1);
  png.format = png_format(image);
  std::vector<uint8_t> bytes(image.values.size());
  if (png_image_finish_read(&png, nullptr, bytes.data(), 0, nullptr) == 0) refuse();
  std::ranges::transform(bytes, image.values.begin(),
                         [](uint8_t byte) { return static_cast<float>(byte) / kMaxByte; });
  return image;
}

std::string base64(std::span<const std::byte> bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t have = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j) {
      word = word << 8 | (j < have ? std::to_integer<uint32_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += j <= have ? kAlphabet[word >> (18 - 6 * j) & 63u] : '=';
    }
  }
  return text;
}

std::string png_data_uri(const Image& image) {
  return "data:image/png;base64," + base64(encode_png(image));
}

}  // namespace mezzotint
