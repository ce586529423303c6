#include "models/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"
#include "models/json_file.h"

namespace mezzotint {
namespace {

constexpr uint64_t kSeed = 21;  // of tools/goldens/images.py

std::vector<float> clamped(const Tensor& noise, const std::vector<float>& base, float scale) {
  std::vector<float> values;
  for (size_t i = 0; i < base.size(); ++i) {
    values.push_back(std::clamp(base[i] + scale * noise.data<float>()[i], 0.0f, 1.0f));
  }
  return values;
}

struct Pair {
  std::vector<Image> a, b;
};

// The pictures of tools/goldens/images.py.
Pair golden_pictures() {
  Pair pair;
  for (int i = 0; i < 2; ++i) {
    Image a(17, 20, 4, 0.5f);
    const Shape shape{a.height, a.width, a.channels};
    const std::string index = std::to_string(i);
    a.values = clamped(testing::named_noise("image." + index, kSeed, shape), a.values, 0.25f);
    Image b = a;
    b.values = clamped(testing::named_noise("change." + index, kSeed, shape), a.values, 0.05f);
    pair.a.push_back(a);
    pair.b.push_back(b);
  }
  return pair;
}

TEST(Metrics, MatchTheGoldenNumbers) {
  const JsonFile golden =
      JsonFile::read(std::filesystem::path(MZ_SOURCE_DIR) / "testdata" / "flux" / "metrics.json");
  Pair pair = golden_pictures();
  constexpr double kTolerance = 1e-6;
  EXPECT_NEAR(psnr(pair.a, pair.b), golden.number("psnr"), kTolerance);
  EXPECT_NEAR(ssim(pair.a, pair.b), golden.number("ssim"), kTolerance);
  pair.b[1].at(8, 9)[1] += 0.1f;
  EXPECT_GT(std::abs(psnr(pair.a, pair.b) - golden.number("psnr")), kTolerance);
  EXPECT_GT(std::abs(ssim(pair.a, pair.b) - golden.number("ssim")), kTolerance);
}

TEST(Psnr, AveragesTheErrorOverImagesFirst) {
  const std::vector<Image> a{Image(4, 4, 3, 0.5f), Image(4, 4, 3, 0.5f)};
  const std::vector<Image> b{Image(4, 4, 3, 0.6f), Image(4, 4, 3, 0.5f)};
  EXPECT_NEAR(psnr(a, b), -10 * std::log10(0.01 / 2), 1e-4);
}

TEST(Psnr, LeavesAlphaOut) {
  std::vector<Image> a{Image(4, 4, 4, 0.5f)}, b = a;
  for (int64_t i = 0; i < 16; ++i) b[0].values[static_cast<size_t>(i * 4 + 3)] = 0.0f;
  EXPECT_TRUE(std::isinf(psnr(a, b)));
  EXPECT_GT(psnr(a, b), 0);
}

TEST(Ssim, IsOneForEqualImages) {
  const Pair pair = golden_pictures();
  EXPECT_DOUBLE_EQ(ssim(pair.a, pair.a), 1.0);
}

TEST(Ssim, OfFlatImagesIsTheLuminanceTerm) {
  const std::vector<Image> a{Image(11, 11, 3, 0.25f)}, b{Image(11, 11, 3, 0.75f)};
  const double c1 = 1e-4;
  EXPECT_NEAR(ssim(a, b), (2 * 0.25 * 0.75 + c1) / (0.0625 + 0.5625 + c1), 1e-9);
}

TEST(Metrics, RefusePairsThatDoNotFit) {
  const std::vector<Image> one{Image(11, 11, 3)}, other{Image(11, 12, 3)}, small{Image(10, 11, 3)};
  EXPECT_THROW(psnr(one, other), Error);
  EXPECT_THROW(psnr({}, {}), Error);
  EXPECT_THROW(ssim(small, small), Error);
  EXPECT_NO_THROW(psnr(small, small));
}

}  // namespace
}  // namespace mezzotint
