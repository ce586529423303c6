#include "models/image.h"

#include <algorithm>

namespace mezzotint {

Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image rgb(image.width, image.height, 3);
  for (int64_t pixel = 0; pixel < image.pixels(); ++pixel) {
    const float* from = image.values.data() + pixel * image.channels;
    float* to = rgb.values.data() + pixel * 3;
    if (image.channels < 3) {
      std::fill_n(to, 3, from[0]);
    } else {
      std::copy_n(from, 3, to);
    }
  }
  return rgb;
}

}  // namespace mezzotint
