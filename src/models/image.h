// An image in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mezzotint {

// Interleaved [height, width, channels] values in 0 ... 1; 1 (grey), 3 (RGB) or 4 (RGBA) channels.
struct Image {
  int64_t width = 0;
  int64_t height = 0;
  int64_t channels = 3;
  std::vector<float> values;

  Image() = default;
  Image(int64_t w, int64_t h, int64_t c, float fill = 0.0f)
      : width(w), height(h), channels(c), values(static_cast<size_t>(w * h * c), fill) {}

  int64_t pixels() const { return width * height; }
  float* at(int64_t x, int64_t y) { return values.data() + (y * width + x) * channels; }
  const float* at(int64_t x, int64_t y) const { return values.data() + (y * width + x) * channels; }

  bool operator==(const Image&) const = default;
};

// The colour channels of an RGBA image; RGB stays as it is. (In the demo's images alpha is a mask
// beside finished colours, so nothing is blended.)
Image to_rgb(const Image& image);

}  // namespace mezzotint
