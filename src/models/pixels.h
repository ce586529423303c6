// Between tokens, latents and pixels.
//
//   PixelLayout layout = read_pixel_layout("demo");
//   std::vector<Image> images = tokens_to_images(layout, latents);
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mezzotint/tensor.h"
#include "models/image.h"

namespace mezzotint {

struct NamedColor {
  std::string name;
  std::array<float, 3> rgb{};  // 0 ... 1
};

// pixels.json: how a model without a VAE lays out pixels, and what its prompts are made of.
struct PixelLayout {
  int64_t size = 0;       // pixels per side
  int64_t channels = 0;   // of a pixel: 3 (RGB) or 4 (RGBA)
  int64_t unshuffle = 1;  // latent pixel = unshuffle x unshuffle pixels
  float low = -1.0f;      // value of a channel at 0
  float high = 1.0f;      // and at 1
  int64_t text_tokens = 0;
  std::vector<NamedColor> colors;
  int64_t default_steps = 0;
  float guidance_scale = 1.0f;

  int64_t latent_channels() const { return channels * unshuffle * unshuffle; }
  int64_t latent_size() const { return size / unshuffle; }
  int64_t grid() const { return latent_size() / 2; }  // tokens per side
  int64_t token_channels() const { return latent_channels() * 4; }
};

// `path` is pixels.json or its folder.
PixelLayout read_pixel_layout(const std::filesystem::path& path);

// Flux' 2 x 2 packing of one sample: latent [channels, 2 rows, 2 cols] <-> tokens
// [rows * cols, channels * 4]; token i * cols + j holds channel * 4 + di * 2 + dj.
void pack_latent(const float* latent, int64_t channels, int64_t rows, int64_t cols, float* tokens);
void unpack_latent(const float* tokens, int64_t channels, int64_t rows, int64_t cols,
                   float* latent);

// tokens: F32 [batch, grid * grid, token_channels]. Values are clamped to 0 ... 1.
std::vector<Image> tokens_to_images(const PixelLayout& layout, const Tensor& tokens);
// The inverse for images of the layout's size.
Tensor images_to_tokens(const PixelLayout& layout, const std::vector<Image>& images);

// What an RGBA image shows, as palette indices; object is -1 when there is none.
struct ShownColors {
  int64_t object = -1;
  int64_t background = 0;
};

// background = mean RGB of the two outermost pixel rings; object = least squares of
// rgb = background + alpha (object - background); both to the nearest palette entry (Euclidean, the
// first on a tie). An image with sum(alpha^2) < 1 has no object.
ShownColors measure_colors(const Image& rgba, const std::vector<NamedColor>& palette);

}  // namespace mezzotint
