#include "models/classifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"
#include "models/json_file.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = MZ_SOURCE_DIR;
constexpr uint64_t kSeed = 21;  // of tools/goldens/images.py

std::vector<Image> golden_pictures() {
  std::vector<Image> images;
  for (int i = 0; i < 4; ++i) {
    Image image(32, 32, 4);
    const Tensor noise = testing::named_noise("image." + std::to_string(i), kSeed, {32, 32, 4});
    std::ranges::transform(testing::values_of(noise), image.values.begin(),
                           [](float x) { return std::clamp(0.5f + 0.25f * x, 0.0f, 1.0f); });
    images.push_back(image);
  }
  return images;
}

std::vector<float> flat_logits(const Classifier& classifier, const std::vector<Image>& images) {
  std::vector<float> flat;
  for (const std::vector<float>& row : classifier.logits(images, ExecContext({.threads = 2}))) {
    flat.insert(flat.end(), row.begin(), row.end());
  }
  return flat;
}

TEST(Classifier, MatchesTorch) {
  const Classifier classifier = Classifier::load(kRoot / "demo" / "classifier");
  const JsonFile golden = JsonFile::read(kRoot / "testdata" / "flux" / "classifier.json");
  const std::vector<double> numbers = golden.numbers("logits");
  const std::vector<float> expected(numbers.begin(), numbers.end());
  std::vector<Image> images = golden_pictures();
  const std::vector<float> logits = flat_logits(classifier, images);
  ASSERT_EQ(logits.size(), expected.size());
  constexpr double kTolerance = 1e-5;
  EXPECT_LE(testing::relative_l2(logits, expected), kTolerance);
  images[2].at(16, 16)[3] += 0.1f;
  EXPECT_GT(testing::relative_l2(flat_logits(classifier, images), expected), kTolerance);
}

TEST(Classifier, PicksTheLargestLogit) {
  const Classifier classifier = Classifier::load(kRoot / "demo" / "classifier");
  const std::vector<Image> images = golden_pictures();
  const ExecContext ctx({.threads = 1});
  const std::vector<std::vector<float>> logits = classifier.logits(images, ctx);
  const std::vector<int64_t> classes = classifier.classify(images, ctx);
  ASSERT_EQ(classes.size(), images.size());
  for (size_t i = 0; i < classes.size(); ++i) {
    EXPECT_EQ(logits[i][static_cast<size_t>(classes[i])], std::ranges::max(logits[i]));
  }
  EXPECT_EQ(classifier.class_names().size(), 10u);
}

TEST(Classifier, RefusesAnImageOfAnotherSize) {
  const Classifier classifier = Classifier::load(kRoot / "demo" / "classifier");
  const std::vector<Image> images{Image(16, 32, 4)};
  EXPECT_THROW(classifier.logits(images, ExecContext({.threads = 1})), Error);
}

// conv 1 -> 2 (3 x 3, stride 1, no padding) on 4 x 4, average of 2 x 2, linear 2 -> 2.
constexpr const char* kConfig = R"({"input": {"channel": "alpha", "shape": [1, 4, 4],
  "value_range": [0, 1]}, "layers": [
  {"type": "conv2d", "name": "conv", "in": 1, "out": 2, "kernel": 3, "stride": 1, "padding": 0},
  {"type": "avg_pool", "kernel": 2, "stride": 2}, {"type": "flatten"},
  {"type": "linear", "name": "fc", "in": 2, "out": 2}], "class_names": ["a", "b"]})";

fs::path write_small(const std::string& config) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("classifier"));
  testing::write_text(folder / "config.json", config);
  Writer writer(folder / "model.safetensors", {{"conv.weight", DType::kF32, {2, 1, 3, 3}},
                                               {"conv.bias", DType::kF32, {2}},
                                               {"fc.weight", DType::kF32, {2, 2}},
                                               {"fc.bias", DType::kF32, {2}}});
  const auto put = [&](const char* name, std::vector<float> values, Shape shape) {
    writer.put(name, Tensor::copy_of<float>(values, std::move(shape)));
  };
  std::vector<float> taps(18, 0.0f);
  taps[4] = 1.0f;   // channel 0: the centre
  taps[9] = 10.0f;  // channel 1: the upper left
  put("conv.weight", taps, {2, 1, 3, 3});
  put("conv.bias", {0.5f, 0.0f}, {2});
  put("fc.weight", {1, 0, 1, 1}, {2, 2});
  put("fc.bias", {0, -1}, {2});
  writer.finish();
  return folder;
}

TEST(Classifier, ComputesASmallNetByHand) {
  const Classifier classifier = Classifier::load(write_small(kConfig));
  Image image(4, 4, 4);
  for (int64_t i = 0; i < 16; ++i) {
    image.values[static_cast<size_t>(i * 4 + 3)] = static_cast<float>(i) / 16.0f;
  }
  // Centres 5, 6, 9, 10 of 16: mean 7.5 / 16; upper left 0, 1, 4, 5: mean 2.5 / 16.
  const float centre = 0.5f + 7.5f / 16, corner = 25.0f / 16;
  const auto logits = classifier.logits(std::vector<Image>{image}, ExecContext({.threads = 1}));
  EXPECT_FLOAT_EQ(logits[0][0], centre);
  EXPECT_FLOAT_EQ(logits[0][1], centre + corner - 1);
}

TEST(Classifier, NamesFileAndKeyOfAFault) {
  const std::pair<std::string, std::string> faults[] = {
      {R"("alpha")", R"("luma")"},
      {R"("type": "avg_pool")", R"("type": "max_pool")"},
      {R"("in": 1, )", R"("in": 3, )"},
      {R"("avg_pool", "kernel": 2, "stride": 2}, {"type": "flatten"})", R"("relu"})"},
      {R"("kernel": 2)", R"("kernel": 9)"},
      {R"(["a", "b"])", R"(["a"])"},
  };
  for (const auto& [from, to] : faults) {
    std::string config = kConfig;
    config.replace(config.find(from), from.size(), to);
    std::string message = "no error";
    try {
      Classifier::load(write_small(config));
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("config.json"), message.npos) << to << ": " << message;
  }
  std::string config = kConfig;
  config.replace(config.find(R"("out": 2, "kernel")"), 8, R"("out": 3)");
  try {
    Classifier::load(write_small(config));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("conv.weight"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mezzotint
