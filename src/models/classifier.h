// A small convolutional classifier that says what a generated image shows.
//
//   Classifier classifier = Classifier::load("demo/classifier");
//   std::vector<int64_t> classes = classifier.classify(images, ctx);
//
// Immutable; may be used from several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/tensor.h"
#include "models/image.h"

namespace mezzotint {

class Classifier {
 public:
  // A folder with model.safetensors and config.json: {input: {channel, shape, value_range}, layers:
  // [{type: conv2d | relu | avg_pool | flatten | linear, ...}], class_names}.
  static Classifier load(const std::filesystem::path& folder);

  const std::vector<std::string>& class_names() const { return class_names_; }

  // One vector of logits per image; reads the image's alpha channel.
  std::vector<std::vector<float>> logits(std::span<const Image> images,
                                         const ExecContext& ctx) const;
  // The index of the largest logit, the first on a tie.
  std::vector<int64_t> classify(std::span<const Image> images, const ExecContext& ctx) const;

 private:
  enum class Kind : uint8_t { kConv2d, kRelu, kAvgPool, kFlatten, kLinear };

  struct Planes {  // [channels, height, width]
    int64_t channels = 0, height = 0, width = 0;
    std::vector<float> values;
  };

  struct Layer {
    Kind kind = Kind::kRelu;
    int64_t in = 0, out = 0;
    int64_t kernel = 1, stride = 1, padding = 0;
    Tensor weight, bias;  // F32
  };

  friend struct ClassifierReader;
  static Planes conv2d(const Layer& layer, const Planes& x);
  static Planes avg_pool(const Layer& layer, const Planes& x);
  static Planes linear(const Layer& layer, const Planes& x);
  Planes input_of(const Image& image) const;
  std::vector<float> run(const Image& image) const;

  int64_t height_ = 0, width_ = 0;
  float low_ = -1.0f, high_ = 1.0f;
  std::vector<Layer> layers_;
  std::vector<std::string> class_names_;
};

}  // namespace mezzotint
