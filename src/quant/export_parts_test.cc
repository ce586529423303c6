#include "quant/export_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "format/expect_error.h"
#include "mezzotint/quantize.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

std::vector<int64_t> loads(const std::vector<int64_t>& bytes, const std::vector<int>& owner,
                           int workers) {
  std::vector<int64_t> load(static_cast<size_t>(workers), 0);
  for (size_t i = 0; i < bytes.size(); ++i) load[static_cast<size_t>(owner[i])] += bytes[i];
  return load;
}

// The bar: of four processes each has at least 15 % of the bytes.
TEST(SplitWork, GivesEveryOfFourAtLeastFifteenPercent) {
  std::vector<int64_t> bytes;
  for (int block = 0; block < 5; ++block) {
    for (const int64_t linear : {26, 26, 26, 26, 70, 70}) bytes.push_back(linear * 1'000'000);
    for (int norm = 0; norm < 4; ++norm) bytes.push_back(10'000);
  }
  const int64_t all = std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
  for (const int64_t load : loads(bytes, split_work(bytes, 4), 4)) {
    EXPECT_GE(static_cast<double>(load), 0.15 * static_cast<double>(all));
  }
}

TEST(SplitWork, IsTheSameEveryTimeAndLeavesNothingOut) {
  const std::vector<int64_t> bytes = {5, 5, 5, 9, 0, 1};
  const std::vector<int> owner = split_work(bytes, 3);
  EXPECT_EQ(owner, split_work(bytes, 3));
  EXPECT_EQ(owner, (std::vector<int>{1, 2, 1, 0, 2, 2}));
  EXPECT_EQ(split_work({7}, 4), std::vector<int>{0});
}

// Nine linears, of which two have biases, and tensors that are none.
class SharedExport : public testing::Test {
 protected:
  SharedExport() {
    std::mt19937_64 random(3);
    LayerTensors tensors;
    for (int i = 0; i < 9; ++i) {
      const std::string name = "blocks." + std::to_string(i) + ".ff";
      tensors.push_back({name + ".weight", "", normal_tensor(DType::kBF16, {48, 64}, random)});
      if (i % 4 == 0) {
        tensors.push_back({name + ".bias", "", normal_tensor(DType::kBF16, {48}, random)});
      }
    }
    tensors.push_back({"norm.weight", "", normal_tensor(DType::kF32, {64}, random)});
    write_weights(folder_ / "model.safetensors", tensors);
  }

  Report exported(const std::string& out, ExportOptions options = {}) const {
    options.algorithm = "w8a8_dynamic";
    options.rules = {{.pattern = "blocks.3.ff", .algorithm = "w4a4_mxfp4_svd"}};
    options.preset = "none";
    return export_quantized(WeightStore::open(folder_ / "model.safetensors"), folder_ / out,
                            options, ExecContext({.threads = 1}));
  }

  std::map<std::string, std::string> files(const std::string& out) const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / out)) {
      if (entry.is_regular_file()) all[entry.path().filename().string()] = file_text(entry.path());
    }
    return all;
  }

  TestFolder folder_;
};

TEST_F(SharedExport, GivesTheBytesOfOneProcess) {
  const Report alone = exported("alone");
  for (const int worker : {3, 1, 2}) exported("four", {.worker = worker, .workers = 4});
  const Report four = exported("four", {.worker = 0, .workers = 4});
  EXPECT_EQ(files("four"), files("alone"));
  EXPECT_FALSE(fs::exists(folder_ / "four" / kPartsFolder));
  for (size_t i = 0; i < alone.layers.size(); ++i) {
    EXPECT_EQ(alone.layers[i].weight_sqnr_db, four.layers[i].weight_sqnr_db);
  }
}

TEST_F(SharedExport, EveryPartHoldsItsShare) {
  for (const int worker : {1, 2, 3}) exported("out", {.worker = worker, .workers = 4});
  int64_t all = 0;
  std::vector<int64_t> parts;
  for (const int worker : {1, 2, 3}) {
    const fs::path part = folder_ / "out" / kPartsFolder / (std::to_string(worker) + "-of-4");
    parts.push_back(WeightStore::open_file(part / "part.safetensors").total_bytes());
  }
  exported("alone");
  all = WeightStore::open(folder_ / "alone" / "quant_model_weight_w8a8_dynamic.safetensors")
            .total_bytes();
  parts.push_back(all - std::accumulate(parts.begin(), parts.end(), int64_t{0}));
  for (const int64_t part : parts) {
    EXPECT_GE(static_cast<double>(part), 0.15 * static_cast<double>(all));
  }
}

TEST_F(SharedExport, AFinishedPartIsNotMadeAgainAndAnothersIsThrownAway) {
  exported("out", {.worker = 1, .workers = 2});
  const fs::path part = folder_ / "out" / kPartsFolder / "1-of-2" / "part.safetensors";
  const auto made = fs::last_write_time(part);
  exported("out", {.worker = 1, .workers = 2, .resume = true});
  EXPECT_EQ(fs::last_write_time(part), made);
  exported("out", {.max_shard_bytes = 1000, .worker = 1, .workers = 2});
  EXPECT_NE(fs::last_write_time(part), made);
}

TEST_F(SharedExport, TwoProcessesCannotMakeOnePart) {
  const PartFolder held(folder_ / "out", {.rank = 1, .world = 2, .recipe = "r"});
  expect_error(ErrorCode::kUsage, {"another process is at work on this part", "--rank"},
               [&] { exported("out", {.worker = 1, .workers = 2}); });
}

TEST_F(SharedExport, WaitingCanBeInterrupted) {
  struct Stop {};
  int polls = 0;
  const auto poll = [&] {
    if (++polls == 3) throw Stop{};
  };
  EXPECT_THROW(wait_for_part(folder_ / "out", {.rank = 1, .world = 2, .recipe = "r"}, poll), Stop);
}

}  // namespace
}  // namespace mezzotint
