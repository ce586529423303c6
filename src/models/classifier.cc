#include "models/classifier.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/parallel_for.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int64_t kAlpha = 3;  // index in RGBA

int64_t pooled_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding) {
  return (size + 2 * padding - kernel) / stride + 1;
}

}  // namespace

Classifier::Planes Classifier::conv2d(const Layer& layer, const Planes& x) {
  const int64_t kernel = layer.kernel;
  Planes y{.channels = layer.out,
           .height = pooled_size(x.height, kernel, layer.stride, layer.padding),
           .width = pooled_size(x.width, kernel, layer.stride, layer.padding),
           .values = {}};
  const float* bias = layer.bias.data<float>();
  for (int64_t out = 0; out < y.channels; ++out) {
    for (int64_t row = 0; row < y.height; ++row) {
      for (int64_t col = 0; col < y.width; ++col) {
        const float* weight = layer.weight.data<float>() + out * layer.in * kernel * kernel;
        float sum = bias[out];
        for (int64_t in = 0; in < layer.in; ++in) {
          for (int64_t tap = 0; tap < kernel * kernel; ++tap, ++weight) {
            const int64_t from_y = row * layer.stride - layer.padding + tap / kernel;
            const int64_t from_x = col * layer.stride - layer.padding + tap % kernel;
            if (from_y < 0 || from_x < 0 || from_y >= x.height || from_x >= x.width) continue;
            const int64_t from = (in * x.height + from_y) * x.width + from_x;
            sum += *weight * x.values[static_cast<size_t>(from)];
          }
        }
        y.values.push_back(sum);
      }
    }
  }
  return y;
}

Classifier::Planes Classifier::avg_pool(const Layer& layer, const Planes& x) {
  const int64_t kernel = layer.kernel;
  Planes y{.channels = x.channels,
           .height = pooled_size(x.height, kernel, layer.stride, 0),
           .width = pooled_size(x.width, kernel, layer.stride, 0),
           .values = {}};
  for (int64_t channel = 0; channel < y.channels; ++channel) {
    for (int64_t row = 0; row < y.height; ++row) {
      for (int64_t col = 0; col < y.width; ++col) {
        float sum = 0;
        for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
          const int64_t from_y = row * layer.stride + tap / kernel;
          const int64_t from_x = col * layer.stride + tap % kernel;
          const int64_t from = (channel * x.height + from_y) * x.width + from_x;
          sum += x.values[static_cast<size_t>(from)];
        }
        y.values.push_back(sum / static_cast<float>(kernel * kernel));
      }
    }
  }
  return y;
}

Classifier::Planes Classifier::linear(const Layer& layer, const Planes& x) {
  Planes y{.channels = layer.out, .height = 1, .width = 1, .values = {}};
  for (int64_t out = 0; out < layer.out; ++out) {
    const float* weight = layer.weight.data<float>() + out * layer.in;
    float sum = layer.bias.data<float>()[out];
    for (int64_t in = 0; in < layer.in; ++in) sum += weight[in] * x.values[static_cast<size_t>(in)];
    y.values.push_back(sum);
  }
  return y;
}

Classifier::Planes Classifier::input_of(const Image& image) const {
  if (image.width != width_ || image.height != height_ || image.channels != kAlpha + 1) {
    throw Error(ErrorCode::kUsage, "image to classify",
                {.expected = fmt::format("{} x {} x 4", width_, height_),
                 .found = fmt::format("{} x {} x {}", image.width, image.height, image.channels)});
  }
  Planes planes{.channels = 1, .height = height_, .width = width_, .values = {}};
  for (int64_t i = 0; i < image.pixels(); ++i) {
    const float alpha = image.values[static_cast<size_t>(i * image.channels + kAlpha)];
    planes.values.push_back(low_ + alpha * (high_ - low_));
  }
  return planes;
}

std::vector<float> Classifier::run(const Image& image) const {
  Planes x = input_of(image);
  for (const Layer& layer : layers_) {
    switch (layer.kind) {
      case Kind::kConv2d:
        x = conv2d(layer, x);
        break;
      case Kind::kAvgPool:
        x = avg_pool(layer, x);
        break;
      case Kind::kLinear:
        x = linear(layer, x);
        break;
      case Kind::kRelu:
        for (float& value : x.values) value = std::max(value, 0.0f);
        break;
      case Kind::kFlatten:
        break;  // [channels, height, width] is contiguous already
    }
  }
  return std::move(x.values);
}

std::vector<std::vector<float>> Classifier::logits(std::span<const Image> images,
                                                   const ExecContext& ctx) const {
  std::vector<std::vector<float>> all(images.size());
  parallel_for(ctx, static_cast<int64_t>(images.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      all[static_cast<size_t>(i)] = run(images[static_cast<size_t>(i)]);
    }
  });
  return all;
}

std::vector<int64_t> Classifier::classify(std::span<const Image> images,
                                          const ExecContext& ctx) const {
  std::vector<int64_t> classes;
  for (const std::vector<float>& row : logits(images, ctx)) {
    classes.push_back(std::ranges::max_element(row) - row.begin());
  }
  return classes;
}

}  // namespace mezzotint
