#include "models/pixels.h"

#include <algorithm>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "models/json_file.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPatch = 2;
constexpr float kMaxByte = 255.0f;

std::vector<NamedColor> read_palette(const JsonFile& json) {
  std::vector<NamedColor> palette;
  for (const JsonFile& item : json.objects("colors")) {
    const std::vector<int64_t> rgb = item.integers("rgb", 0);
    const auto fits = [](int64_t value) { return value <= 255; };
    if (rgb.size() != 3 || !std::ranges::all_of(rgb, fits)) item.fail("rgb", "3 bytes");
    NamedColor color{.name = item.string("name")};
    std::ranges::transform(rgb, color.rgb.begin(),
                           [](int64_t value) { return static_cast<float>(value) / kMaxByte; });
    palette.push_back(color);
  }
  return palette;
}

// fn(index in the token-major sample, channel, y, x) for every value of one sample.
template <typename Fn>
void for_each_value(const PixelLayout& layout, const Fn& fn) {
  const int64_t grid = layout.grid(), unshuffle = layout.unshuffle;
  int64_t index = 0;
  for (int64_t token = 0; token < grid * grid; ++token) {
    for (int64_t latent_channel = 0; latent_channel < layout.latent_channels(); ++latent_channel) {
      const int64_t channel = latent_channel / (unshuffle * unshuffle);
      const int64_t dy = latent_channel / unshuffle % unshuffle, dx = latent_channel % unshuffle;
      for (int64_t patch = 0; patch < kPatch * kPatch; ++patch, ++index) {
        const int64_t latent_y = token / grid * kPatch + patch / kPatch;
        const int64_t latent_x = token % grid * kPatch + patch % kPatch;
        fn(index, channel, latent_y * unshuffle + dy, latent_x * unshuffle + dx);
      }
    }
  }
}

std::array<double, 3> mean_of_border(const Image& image) {
  constexpr int64_t kRings = 2;
  std::array<double, 3> sum{};
  int64_t count = 0;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const int64_t from_edge = std::min({x, y, image.width - 1 - x, image.height - 1 - y});
      if (from_edge >= kRings) continue;
      for (size_t c = 0; c < 3; ++c) sum[c] += double{image.at(x, y)[c]};
      ++count;
    }
  }
  for (double& value : sum) value /= static_cast<double>(count);
  return sum;
}

int64_t nearest_color(const std::array<double, 3>& rgb, const std::vector<NamedColor>& palette) {
  int64_t best = 0;
  double best_distance = -1;
  for (size_t i = 0; i < palette.size(); ++i) {
    double distance = 0;
    for (size_t c = 0; c < 3; ++c) {
      const double difference = rgb[c] - double{palette[i].rgb[c]};
      distance += difference * difference;
    }
    if (best_distance < 0 || distance < best_distance) {
      best = static_cast<int64_t>(i);
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace

PixelLayout read_pixel_layout(const fs::path& path) {
  const JsonFile json = JsonFile::read(fs::is_directory(path) ? path / "pixels.json" : path);
  json.refuse_unknown_keys({"channels", "size", "value_range", "unshuffle", "latent_shape",
                            "to_pixels", "text_tokens", "colors", "default_steps",
                            "guidance_scale"});
  PixelLayout layout;
  const std::string channels = json.string("channels");
  if (channels != "RGB" && channels != "RGBA") json.fail("channels", "RGB or RGBA");
  layout.channels = static_cast<int64_t>(channels.size());
  layout.size = json.integer("size", 2);
  layout.unshuffle = json.integer("unshuffle", 1);
  if (layout.size % (kPatch * layout.unshuffle) != 0) {
    json.fail("size", fmt::format("a multiple of {}", kPatch * layout.unshuffle));
  }
  const std::vector<int64_t> latent_shape{layout.latent_channels(), layout.latent_size(),
                                          layout.latent_size()};
  if (json.integers("latent_shape", 1) != latent_shape) {
    json.fail("latent_shape", to_string(latent_shape));
  }
  const std::vector<double> range = json.numbers("value_range");
  if (range.size() != 2 || !(range[0] < range[1])) {
    json.fail("value_range", "two rising numbers");
  }
  layout.low = static_cast<float>(range[0]);
  layout.high = static_cast<float>(range[1]);
  layout.text_tokens = json.integer("text_tokens", 0);
  layout.colors = read_palette(json);
  layout.default_steps = json.integer("default_steps", 1);
  layout.guidance_scale = static_cast<float>(json.number("guidance_scale"));
  return layout;
}

void pack_latent(const float* latent, int64_t channels, int64_t rows, int64_t cols, float* tokens) {
  for (int64_t token = 0; token < rows * cols; ++token) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t patch = 0; patch < kPatch * kPatch; ++patch) {
        const int64_t y = token / cols * kPatch + patch / kPatch;
        const int64_t x = token % cols * kPatch + patch % kPatch;
        *tokens++ = latent[(c * rows * kPatch + y) * cols * kPatch + x];
      }
    }
  }
}

void unpack_latent(const float* tokens, int64_t channels, int64_t rows, int64_t cols,
                   float* latent) {
  for (int64_t token = 0; token < rows * cols; ++token) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t patch = 0; patch < kPatch * kPatch; ++patch) {
        const int64_t y = token / cols * kPatch + patch / kPatch;
        const int64_t x = token % cols * kPatch + patch % kPatch;
        latent[(c * rows * kPatch + y) * cols * kPatch + x] = *tokens++;
      }
    }
  }
}

std::vector<Image> tokens_to_images(const PixelLayout& layout, const Tensor& tokens) {
  const int64_t per_image = layout.grid() * layout.grid() * layout.token_channels();
  const Shape expected{tokens.shape().empty() ? 0 : tokens.dim(0), layout.grid() * layout.grid(),
                       layout.token_channels()};
  if (tokens.dtype() != DType::kF32 || tokens.shape() != expected) {
    throw Error(
        ErrorCode::kUsage, "tokens do not fit the pixel layout",
        {.expected = fmt::format("F32 {}", to_string(expected)),
         .found = fmt::format("{} {}", dtype_name(tokens.dtype()), to_string(tokens.shape()))});
  }
  std::vector<Image> images;
  for (int64_t i = 0; i < tokens.dim(0); ++i) {
    const float* values = tokens.data<float>() + i * per_image;
    Image image(layout.size, layout.size, layout.channels);
    for_each_value(layout, [&](int64_t index, int64_t channel, int64_t y, int64_t x) {
      const float unit = (values[index] - layout.low) / (layout.high - layout.low);
      image.at(x, y)[channel] = std::clamp(unit, 0.0f, 1.0f);
    });
    images.push_back(std::move(image));
  }
  return images;
}

Tensor images_to_tokens(const PixelLayout& layout, const std::vector<Image>& images) {
  const int64_t tokens = layout.grid() * layout.grid();
  const int64_t per_image = tokens * layout.token_channels();
  Tensor out = Tensor::allocate(
      DType::kF32, {static_cast<int64_t>(images.size()), tokens, layout.token_channels()});
  auto* values = out.mutable_data<float>();
  for (const Image& image : images) {
    if (image.width != layout.size || image.height != layout.size ||
        image.channels != layout.channels) {
      throw Error(ErrorCode::kUsage, "an image does not fit the pixel layout",
                  {.expected = to_string(Shape{layout.size, layout.size, layout.channels}),
                   .found = to_string(Shape{image.height, image.width, image.channels})});
    }
    for_each_value(layout, [&](int64_t index, int64_t channel, int64_t y, int64_t x) {
      values[index] = layout.low + image.at(x, y)[channel] * (layout.high - layout.low);
    });
    values += per_image;
  }
  return out;
}

ShownColors measure_colors(const Image& rgba, const std::vector<NamedColor>& palette) {
  if (rgba.channels != 4 || palette.empty()) {
    throw Error(ErrorCode::kUsage, "measuring colours",
                {.expected = "an RGBA image and a palette",
                 .found = fmt::format("{} channels, {} colours", rgba.channels, palette.size())});
  }
  const std::array<double, 3> background = mean_of_border(rgba);
  std::array<double, 3> pull{};
  double energy = 0;
  for (int64_t i = 0; i < rgba.pixels(); ++i) {
    const float* pixel = rgba.values.data() + i * 4;
    const double alpha = double{pixel[3]};
    energy += alpha * alpha;
    for (size_t c = 0; c < 3; ++c) pull[c] += alpha * (double{pixel[c]} - background[c]);
  }
  std::array<double, 3> object{};
  for (size_t c = 0; c < 3; ++c) object[c] = background[c] + pull[c] / std::max(energy, 1.0);
  return {.object = energy < 1.0 ? -1 : nearest_color(object, palette),
          .background = nearest_color(background, palette)};
}

}  // namespace mezzotint
