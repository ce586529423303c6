#include "quant/export_needs.h"

#include <gtest/gtest.h>

#include <random>

#include "format/expect_error.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

// One linear of 2048 x 1024 and one of 64 x 64, bf16.
class ExportNeeds : public testing::Test {
 protected:
  ExportNeeds() {
    std::mt19937_64 random(4);
    write_weights(folder_ / "m.safetensors",
                  {{"small.weight", "", normal_tensor(DType::kBF16, {64, 64}, random)},
                   {"large.weight", "", normal_tensor(DType::kBF16, {2048, 1024}, random)}});
  }
  Report planned(const std::string& algorithm, ExportOptions options = {}) const {
    options.algorithm = algorithm;
    options.preset = "none";
    options.dry_run = true;
    return export_quantized(WeightStore::open(folder_ / "m.safetensors"), folder_ / "out", options,
                            ExecContext({.threads = 1}));
  }

  // The least that it can do with: less and less in flight, until it is refused.
  int64_t least_memory(const char* algorithm) {
    int64_t bytes = planned(algorithm).memory_bytes;
    try {
      while (true) bytes = planned(algorithm, {.max_memory_bytes = bytes - 1}).memory_bytes;
    } catch (const Error&) {
      return bytes;
    }
  }

  TestFolder folder_;
};

TEST_F(ExportNeeds, AreThoseOfTheLargestLayer) {
  const Report int8 = planned("w8a16");
  EXPECT_EQ(int8.memory_layer, "large");
  constexpr int64_t kWeights = 2048 * 1024;
  EXPECT_GT(int8.memory_bytes, (int64_t{64} << 20) + 4 * kWeights);  // bf16, and codes twice
  // The bases of the branch and what the weight makes of them, in double, but no residual.
  const int64_t mxfp4 = least_memory("w4a4_mxfp4"), low_rank = least_memory("w4a4_mxfp4_svd");
  constexpr int64_t kBases = (2048 + 2 * 1024) * int64_t{6 * 16} * 8;
  EXPECT_GT(low_rank, mxfp4 + kBases);
  EXPECT_LT(low_rank, mxfp4 + 2 * kBases + 4 * kWeights);
}

TEST_F(ExportNeeds, ALayerThatNeedsMoreThanAllowedIsRefusedBeforeAnythingIsWritten) {
  const int64_t least = least_memory("w8a16");
  EXPECT_NO_THROW(planned("w8a16", {.max_memory_bytes = least}));
  expect_error(ErrorCode::kResources,
               {"more memory than is allowed", "layer large", "--max-memory"},
               [&] { planned("w8a16", {.max_memory_bytes = least - 1}); });
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST_F(ExportNeeds, TimeComesFromATrialAndOnlyWhereItIsAskedFor) {
  EXPECT_EQ(planned("w8a16").estimated_seconds, 0);
  const double int8 = planned("w8a16", {.estimate_time = true}).estimated_seconds;
  EXPECT_GT(int8, 0);
  EXPECT_GT(planned("w4a4_mxfp4_svd", {.estimate_time = true}).estimated_seconds, int8);
}

// Where memory is short, none waits to be used again, then one layer is read ahead and one written
// behind; the files are the same.
TEST_F(ExportNeeds, LessIsInFlightWhereMemoryIsShort) {
  std::mt19937_64 random(5);
  LayerTensors layers;
  for (const char* name : {"a.weight", "b.weight", "c.weight", "d.weight", "e.weight"}) {
    layers.push_back({name, "", normal_tensor(DType::kBF16, {512, 1024}, random)});
  }
  write_weights(folder_ / "m.safetensors", layers);
  constexpr int64_t kLayer = 2 * 512 * 1024;
  const int64_t needs = planned("w8a16").memory_bytes;
  const int64_t without = planned("w8a16", {.max_memory_bytes = needs - 1}).memory_bytes;
  const int64_t least = least_memory("w8a16");
  EXPECT_GE(needs, without + 5 * kLayer);
  EXPECT_GE(without, least + 2 * kLayer);
  const auto text = [&](const std::string& out, int64_t most) {
    ExportOptions options = {.algorithm = "w8a16", .preset = "none", .max_memory_bytes = most};
    export_quantized(WeightStore::open(folder_ / "m.safetensors"), folder_ / out, options,
                     ExecContext({.threads = 1}));
    return file_text(folder_ / out / "quant_model_weight_w8a16.safetensors");
  };
  const std::string more = text("more", 0);
  EXPECT_EQ(text("without", without), more);
  EXPECT_EQ(text("one", least), more);
}

}  // namespace
}  // namespace mezzotint
