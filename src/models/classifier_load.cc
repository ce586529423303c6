// Reading a Classifier: config.json is followed with the shape of the data, so that every layer is
// known to fit before anything runs.

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "models/classifier.h"
#include "models/json_file.h"
#include "models/read_f32.h"

namespace mezzotint {

struct ClassifierReader {
  using Kind = Classifier::Kind;
  using Layer = Classifier::Layer;

  const JsonFile& config;
  const WeightStore& store;
  Classifier& classifier;
  std::array<int64_t, 3> shape{};  // channels, height, width so far

  void read_input() {
    const JsonFile input = config.object("input");
    if (input.string("channel") != "alpha") input.fail("channel", "alpha");
    const std::vector<int64_t> sizes = input.integers("shape", 1);
    if (sizes.size() != shape.size() || sizes[0] != 1) input.fail("shape", "[1,height,width]");
    shape = {sizes[0], sizes[1], sizes[2]};
    classifier.height_ = sizes[1];
    classifier.width_ = sizes[2];
    const std::vector<double> range = input.numbers("value_range");
    if (range.size() != 2) input.fail("value_range", "two numbers");
    classifier.low_ = static_cast<float>(range[0]);
    classifier.high_ = static_cast<float>(range[1]);
  }

  static Kind kind_of(const JsonFile& json) {
    constexpr std::pair<std::string_view, Kind> kKinds[] = {{"conv2d", Kind::kConv2d},
                                                            {"relu", Kind::kRelu},
                                                            {"avg_pool", Kind::kAvgPool},
                                                            {"flatten", Kind::kFlatten},
                                                            {"linear", Kind::kLinear}};
    const std::string type = json.string("type");
    for (const auto& [name, kind] : kKinds) {
      if (name == type) return kind;
    }
    json.fail("type", "conv2d, relu, avg_pool, flatten or linear");
  }

  Tensor read_tensor(const JsonFile& json, const char* suffix, const Shape& expected) const {
    const std::string name = json.string("name") + suffix;
    const Tensor tensor = read_f32(store, name);
    if (tensor.shape() == expected) return tensor;
    throw Error(ErrorCode::kInput, "a tensor of the classifier has the wrong shape",
                {.tensor = name,
                 .file = store.files().front().string(),
                 .expected = to_string(expected),
                 .found = to_string(tensor.shape())});
  }

  void read_window(const JsonFile& json, Layer& layer) {
    layer.kernel = json.integer("kernel", 1);
    layer.stride = json.integer("stride", 1);
    if (layer.kind == Kind::kConv2d) layer.padding = json.integer("padding", 0);
    for (size_t axis = 1; axis < shape.size(); ++axis) {
      const int64_t room = shape[axis] + 2 * layer.padding - layer.kernel;
      if (room < 0) json.fail("kernel", fmt::format("at most {}", room + layer.kernel));
      shape[axis] = room / layer.stride + 1;
    }
  }

  void read_weights(const JsonFile& json, Layer& layer, Shape weight_shape) {
    layer.in = json.integer("in", 1);
    layer.out = json.integer("out", 1);
    if (layer.in != shape[0]) json.fail("in", fmt::format("{}", shape[0]));
    weight_shape.insert(weight_shape.begin(), {layer.out, layer.in});
    layer.weight = read_tensor(json, ".weight", weight_shape);
    layer.bias = read_tensor(json, ".bias", {layer.out});
  }

  void read_layer(const JsonFile& json) {
    Layer layer{.kind = kind_of(json), .weight = {}, .bias = {}};
    switch (layer.kind) {
      case Kind::kConv2d:
        read_window(json, layer);
        read_weights(json, layer, {layer.kernel, layer.kernel});
        shape[0] = layer.out;
        break;
      case Kind::kAvgPool:
        read_window(json, layer);
        break;
      case Kind::kFlatten:
        shape = {shape[0] * shape[1] * shape[2], 1, 1};
        break;
      case Kind::kLinear:
        if (shape[1] != 1 || shape[2] != 1) json.fail("type", "flatten before linear");
        read_weights(json, layer, {});
        shape[0] = layer.out;
        break;
      case Kind::kRelu:
        break;
    }
    classifier.layers_.push_back(std::move(layer));
  }

  void read() {
    read_input();
    for (const JsonFile& layer : config.objects("layers")) read_layer(layer);
    classifier.class_names_ = config.strings("class_names");
    const int64_t logits = shape[0] * shape[1] * shape[2];
    if (static_cast<int64_t>(classifier.class_names_.size()) != logits) {
      config.fail("class_names", fmt::format("{} names", logits));
    }
  }
};

Classifier Classifier::load(const std::filesystem::path& folder) {
  const JsonFile config = JsonFile::read(folder / "config.json");
  const WeightStore store = WeightStore::open_file(folder / "model.safetensors");
  Classifier classifier;
  ClassifierReader{.config = config, .store = store, .classifier = classifier}.read();
  return classifier;
}

}  // namespace mezzotint
