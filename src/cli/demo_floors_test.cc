#include "cli/demo_floors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {
namespace {

using mezzotint::testing::write_text;
using testing::contains;

const DemoFloors kFloors = {.file = "f/floors.json",
                            .settings = {},
                            .floors = {{.algorithm = "A", .plain_db = 30, .outlier_db = 20},
                                       {.algorithm = "B", .plain_db = 15}}};

FormReport form(const std::string& label, double plain_db, double outlier_db) {
  FormReport report;
  report.label = label;
  report.psnr_db = plain_db;
  report.outlier = OutlierQuality{.psnr_db = outlier_db, .ssim = 1};
  return report;
}

TEST(DemoFloors, AFormAtItsFloorsPasses) {
  EXPECT_TRUE(check_floors(kFloors, {form("A", 30, 20), form("B", 15, 1)}).empty());
}

TEST(DemoFloors, EachVariantBelowItsFloorIsAFailure) {
  const auto findings = check_floors(kFloors, {form("A", 29.99, 19.99), form("B", 15, 1)});
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].line, "A plain: 29.99 dB is below its floor of 30.0 dB");
  EXPECT_EQ(findings[1].line, "A outlier: 19.99 dB is below its floor of 20.0 dB");
  EXPECT_TRUE(findings[0].is_failure && findings[1].is_failure);
}

TEST(DemoFloors, NoNumberIsNoPass) {
  EXPECT_FALSE(check_floors(kFloors, {form("A", NAN, 20), form("B", 15, 1)}).empty());
}

TEST(DemoFloors, AFloorWhoseFormDidNotRunIsAFailure) {
  const auto findings = check_floors(kFloors, {form("A", 30, 20)});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_TRUE(findings[0].is_failure);
  EXPECT_TRUE(contains(findings[0].line, "B has a floor in f/floors.json, but did not run"));
}

TEST(DemoFloors, AFormWithoutAFloorSaysWhatToAdd) {
  const auto findings =
      check_floors(kFloors, {form("A", 30, 20), form("B", 15, 1), form("C", 25.19, 18.06)});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_FALSE(findings[0].is_failure);
  EXPECT_TRUE(contains(findings[0].line, R"({"algorithm": "C", "plain": 22.1, "outlier": 15.0})"));
}

TEST(DemoFloors, AreReadFromTheModelsFolder) {
  const TestFolder folder;
  EXPECT_FALSE(read_demo_floors(folder / ""));
  write_text(folder / "floors.json",
             R"({"images": 4, "outlier_images": 2, "steps": 20, "seed": 1, "guidance": 4.5,
                 "floors": [{"algorithm": "A", "plain": 30.5, "outlier": 20},
                            {"algorithm": "B", "plain": 15}]})");
  const auto floors = read_demo_floors(folder / "");
  ASSERT_TRUE(floors);
  const DemoSettings settings = {
      .images = 4, .outlier_images = 2, .steps = 20, .seed = 1, .guidance = 4.5};
  EXPECT_EQ(floors->settings, settings);
  EXPECT_EQ(floors->floors.at(0).plain_db, 30.5);
  EXPECT_FALSE(floors->floors.at(1).outlier_db);
}

TEST(DemoFloors, AMisspeltKeyIsAnError) {
  const TestFolder folder;
  for (const char* entry : {R"({"algorithm": "A", "plian": 30})", R"({"algorithm": "A"})",
                            R"({"algorithm": "A", "plain": "30"})"}) {
    write_text(folder / "floors.json",
               std::string(R"({"images": 4, "outlier_images": 2, "steps": 20, "seed": 1,
                              "guidance": 4.5, "floors": [)") +
                   entry + "]}");
    EXPECT_THROW(read_demo_floors(folder / ""), Error) << entry;
  }
}

// Multiplies the weight scales of the layer with the most weights by 1.5 (e8m0, which has powers of
// two only: by 2), in the file's bytes.
void damage_largest_layer(const std::filesystem::path& folder) {
  const QuantizedFiles files = find_quantized_files(folder);
  std::string text = file_text(files.weights);
  const WeightStore store = WeightStore::open(files.weights);
  const TensorInfo* largest = nullptr;
  for (const TensorInfo& tensor : store.tensors()) {
    if (!store.find(tensor.name + "_scale")) continue;
    if (!largest || tensor.bytes > largest->bytes) largest = &tensor;
  }
  ASSERT_TRUE(largest);
  const Tensor scale = store.read(largest->name + "_scale");
  const auto size = static_cast<size_t>(scale.byte_size());
  std::string damaged(reinterpret_cast<const char*>(scale.raw()), size);
  const size_t at = text.find(damaged);
  ASSERT_NE(at, std::string::npos);
  for (int64_t i = 0; i < scale.size(); ++i) {
    if (scale.dtype() == DType::kU8) {
      damaged[static_cast<size_t>(i)] += 1;
      continue;
    }
    const float value = 1.5f * scale.data<float>()[i];
    std::memcpy(&damaged[static_cast<size_t>(i) * sizeof(float)], &value, sizeof(float));
  }
  text.replace(at, size, damaged);
  std::ofstream(files.weights, std::ios::binary) << text;
}

// Below, a form's own error hides that of one layer: W4A4_DYNAMIC has 20.2 dB with or without.
constexpr double kErrorOfOneLayerShows = 25;

bool is_attention(const std::string& algorithm) {
  return find_algorithm(algorithm)->attention != nullptr;
}

int quantize_for_floor(const std::string& model, const std::string& out,
                       const std::string& algorithm) {
  return testing::run({"quantize", model, "-o", out, is_attention(algorithm) ? "--fa" : "--algo",
                       algorithm, "--exclude", "*.norm*.linear", "-q"})
      .code;
}

// Teeth of demo/floors.json, on four images of the shipped model.
TEST(SlowDemoFloors, OneDamagedScaleBreaksThem) {
  const std::string model = std::string(MZ_SOURCE_DIR) + "/demo";
  const auto floors = read_demo_floors(model);
  ASSERT_TRUE(floors);
  for (const DemoFloor& floor : floors->floors) {
    const TestFolder folder;
    const std::string quantized = (folder / "q").string();
    ASSERT_EQ(quantize_for_floor(model, quantized, floor.algorithm), 0) << floor.algorithm;
    const std::vector<std::string> compare = {"compare",
                                              model,
                                              "--quant",
                                              quantized,
                                              "--prompts",
                                              "4",
                                              "--force",
                                              "-o",
                                              (folder / "r.html").string(),
                                              "--min-psnr",
                                              std::to_string(floor.plain_db)};
    const testing::CliResult good = testing::run(compare);
    EXPECT_EQ(good.code, 0) << floor.algorithm << good.err;
    if (floor.plain_db < kErrorOfOneLayerShows) continue;
    // No scales in the file, and a damaged rotation is refused (quant/attention_file_test.cc).
    if (is_attention(floor.algorithm)) continue;
    damage_largest_layer(quantized);
    const testing::CliResult bad = testing::run(compare);
    EXPECT_EQ(bad.code, 6) << floor.algorithm << bad.out;
    EXPECT_TRUE(contains(bad.err, "is below the gate")) << floor.algorithm;
  }
}

}  // namespace
}  // namespace mezzotint::cli
