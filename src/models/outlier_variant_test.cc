#include "models/outlier_variant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/flux.h"
#include "models/flux_testing.h"
#include "models/prompts.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(MZ_SOURCE_DIR) / "demo";
constexpr double kSame = 1e-5;
constexpr double kOutlierRatio = 20;  // the plain model has about 5

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.at(values.size() / 2);
}

// max over the channels of absmax / median over them
double channel_ratio(const ConstMatrix& x) {
  std::vector<double> largest(static_cast<size_t>(x.cols), 0.0);
  for (int64_t i = 0; i < x.rows; ++i) {
    const float* row = static_cast<const float*>(x.data) + i * x.row_stride;
    for (int64_t k = 0; k < x.cols; ++k) {
      double& most = largest[static_cast<size_t>(k)];
      most = std::max(most, std::abs(double{row[k]}));
    }
  }
  return *std::ranges::max_element(largest) / median(largest);
}

struct Observed {
  Tensor velocity;
  double median_ratio = 0;  // over the inputs of the linears of the blocks, without adaLN
};

// Four prompts at three times of the sampling.
Observed observe(const fs::path& model_folder) {
  std::map<std::string, double, std::less<>> ratios;
  const Tap tap{.on_linear_input = [&](std::string_view name, const ConstMatrix& x, int) {
    const std::string text(name);
    if (text.find("transformer_blocks.") == std::string::npos) return;
    if (text.find(".norm") != std::string::npos) return;
    ratios[text] = std::max(ratios[text], channel_ratio(x));
  }};
  const ExecContext ctx({.threads = 2, .tap = &tap});
  const auto model = load_flux(model_folder, ctx);
  const PromptSet prompts = read_prompts(kDemo);
  const TextCondition text = prompts.embeddings.select(std::vector<int64_t>{0, 1, 2, 3});
  Observed seen;
  for (const float t : {0.05f, 0.5f, 1.0f}) {
    const std::vector<float> time(4, t);
    seen.velocity = model->forward({.latents = starting_noise(5, 0, {4, 64, 64}),
                                    .text = text.states,
                                    .pooled = text.pooled,
                                    .timestep = time},
                                   flux_rope(model->config, 16, 8, 8), ctx);
  }
  std::vector<double> all;
  for (const auto& [name, ratio] : ratios) all.push_back(ratio);
  seen.median_ratio = median(all);
  return seen;
}

double difference(const Observed& a, const Observed& b) {
  return testing::relative_l2(testing::values_of(a.velocity), testing::values_of(b.velocity));
}

TEST(OutlierVariant, ComputesTheSameWithChannelsThatStandOut) {
  const fs::path folder = testing::scratch_path("outlier_demo");
  write_outlier_variant(WeightStore::open(kDemo), folder, {});
  const Observed plain = observe(kDemo);
  const Observed variant = observe(folder);
  RecordProperty("relative_l2", std::to_string(difference(variant, plain)));
  RecordProperty("plain_ratio", std::to_string(plain.median_ratio));
  RecordProperty("variant_ratio", std::to_string(variant.median_ratio));
  EXPECT_LE(difference(variant, plain), kSame);
  EXPECT_GT(difference(variant, plain), 0.0);  // the variant is another file
  EXPECT_LT(plain.median_ratio, kOutlierRatio / 2);
  EXPECT_GE(variant.median_ratio, kOutlierRatio);
}

// Teeth: one column that was not divided shows.
TEST(OutlierVariant, AChannelThatOneReaderMissedShowsInTheVelocity) {
  const fs::path folder = testing::scratch_path("outlier_broken");
  write_outlier_variant(WeightStore::open(kDemo), folder, {});
  const WeightStore made = WeightStore::open(folder);
  const std::string name = "single_transformer_blocks.3.proj_out.weight";
  const int64_t channel = outlier_channels(256, 2 * 5 + 3 * 2 + 1, {}).front();
  std::vector<TensorPlan> plan;
  for (const TensorInfo& t : made.tensors()) plan.push_back({t.name, t.dtype, t.shape});
  const fs::path broken = testing::fresh_folder(testing::scratch_path("outlier_broken_2"));
  fs::copy_file(folder / "config.json", broken / "config.json");
  Writer writer(broken / testing::kWeightsName, plan);
  for (const TensorPlan& t : plan) {
    if (t.name != name) {
      writer.put(t.name, made.read(t.name));
      continue;
    }
    const Tensor plain = WeightStore::open(kDemo).read(name), good = made.read(name);
    std::vector<uint16_t> bits(static_cast<size_t>(good.size()));
    std::memcpy(bits.data(), good.raw(), bits.size() * sizeof(uint16_t));
    for (int64_t n = 0; n < t.shape[0]; ++n) {
      const auto at = static_cast<size_t>(n * t.shape[1] + channel);
      std::memcpy(&bits[at], plain.raw() + at * sizeof(uint16_t), sizeof(uint16_t));
    }
    writer.put(t.name, std::as_bytes(std::span(bits)));
  }
  writer.finish();
  EXPECT_GT(difference(observe(broken), observe(kDemo)), 10 * kSame);
}

TEST(OutlierVariant, IsTheSameFileEveryTime) {
  const fs::path a = testing::scratch_path("outlier_a"), b = testing::scratch_path("outlier_b");
  write_outlier_variant(WeightStore::open(kDemo), a, {});
  write_outlier_variant(WeightStore::open(kDemo), b, {});
  EXPECT_EQ(file_bytes(a / testing::kWeightsName), file_bytes(b / testing::kWeightsName));
}

TEST(OutlierVariant, KeepsWeightsAndAllButTheScaleBiasesInTheirType) {
  const fs::path folder = testing::scratch_path("outlier_types");
  write_outlier_variant(WeightStore::open(kDemo), folder, {});
  const WeightStore store = WeightStore::open(folder);
  for (const TensorInfo& tensor : store.tensors()) {
    const bool may_widen =
        tensor.name.find(".norm") != std::string::npos && tensor.name.ends_with("linear.bias");
    EXPECT_TRUE(tensor.dtype == DType::kBF16 || may_widen) << tensor.name;
  }
}

TEST(OutlierVariant, PicksOtherChannelsForEverySiteAndSeed) {
  const std::vector<int64_t> channels = outlier_channels(256, 0, {});
  EXPECT_EQ(channels.size(), 8u);  // 0.03 * 256 = 7.68
  EXPECT_TRUE(std::ranges::is_sorted(channels));
  EXPECT_EQ(std::ranges::adjacent_find(channels), channels.end());
  EXPECT_NE(channels, outlier_channels(256, 1, {}));
  EXPECT_NE(channels, outlier_channels(256, 0, {.seed = 4}));
  EXPECT_EQ(outlier_channels(8, 0, {}).size(), 1u);
}

TEST(OutlierVariant, RefusesAFactorThatRounds) {
  const WeightStore store = WeightStore::open(kDemo);
  const fs::path folder = testing::scratch_path("outlier_refused");
  EXPECT_ANY_THROW(write_outlier_variant(store, folder, {.factor = 3.0f}));
  EXPECT_ANY_THROW(write_outlier_variant(store, folder, {.factor = 1.0f}));
  EXPECT_ANY_THROW(write_outlier_variant(store, folder, {.fraction = 0.0}));
  EXPECT_FALSE(fs::exists(folder));
}

}  // namespace
}  // namespace mezzotint
