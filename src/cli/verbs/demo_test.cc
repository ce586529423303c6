// The demo on a tiny random model.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/demo_forms.h"
#include "models/image_io.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::run;

class DemoVerb : public testing::TinyPipelineTest {
 protected:
  testing::CliResult demo(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"demo", "--model", model_,      "--images",
                                          "2",    "--out",   path("demo")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  nlohmann::json report() const {
    return nlohmann::json::parse(file_text(path("demo/report.json")));
  }
  // Floors of the run above, `margin` below what the last run measured.
  void write_floors(double margin, int64_t steps = 2) const {
    nlohmann::json floors = {{"images", 2}, {"outlier_images", 1}, {"steps", steps},
                             {"seed", 0},   {"guidance", 2.0},     {"floors", {}}};
    const nlohmann::json last = report();
    for (const nlohmann::json& form : last["forms"]) {
      floors["floors"].push_back({{"algorithm", form["algorithm"]},
                                  {"plain", form["psnr_db"].get<double>() - margin},
                                  {"one_step", form["one_step_psnr_db"].get<double>() - margin},
                                  {"outlier", form["outlier"]["psnr_db"].get<double>() - margin}});
    }
    mezzotint::testing::write_text(path("model/floors.json"), floors.dump());
  }
};

std::vector<std::string> labels(const nlohmann::json& report) {
  std::vector<std::string> names;
  for (const nlohmann::json& form : report["forms"]) names.push_back(form["algorithm"]);
  return names;
}

TEST_F(DemoVerb, WritesReportGridAndJsonAndMayRunAgain) {
  for (int i = 0; i < 2; ++i) {
    const testing::CliResult result = demo();
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(contains(result.out, "W8A8_DYNAMIC"));
    EXPECT_TRUE(contains(result.out, "outlier dB"));
    EXPECT_TRUE(contains(result.err, "generating: "));
    EXPECT_TRUE(contains(result.err, "generating, outlier variant: "));
    EXPECT_TRUE(contains(result.err, "no floors.json: no PSNR was checked"));
  }
  EXPECT_TRUE(fs::exists(path("demo/w8a16/quant_model_description_w8a16.json")));
  EXPECT_TRUE(fs::exists(path("demo/outlier/w8a16/quant_model_description_w8a16.json")));
  EXPECT_GT(read_png(path("demo/grid.png")).width, 100);
  EXPECT_TRUE(contains(file_text(path("demo/report.html")), "</html>"));
}

TEST_F(DemoVerb, ReportsEveryFormForBothVariants) {
  ASSERT_EQ(demo().code, 0);
  std::vector<std::string> expected;
  for (const DemoForm& form : demo_forms()) expected.emplace_back(form.row->name);
  EXPECT_EQ(labels(report()), expected);
  const nlohmann::json made = report();
  for (const nlohmann::json& form : made["forms"]) {
    EXPECT_GT(form["psnr_db"], 5.0) << form;
    EXPECT_GT(form["outlier"]["psnr_db"], 5.0) << form;
    EXPECT_NE(form["outlier"]["psnr_db"], form["psnr_db"]) << form;
  }
  EXPECT_TRUE(contains(file_text(path("demo/report.html")), "outlier SSIM"));
}

TEST_F(DemoVerb, TheFloatRowSaysThatItRepeats) {
  const testing::CliResult result = demo();
  const std::string row = result.out.substr(result.out.find("\nfloat") + 1);
  EXPECT_TRUE(contains(row.substr(0, row.find('\n')), "equal"));
}

TEST_F(DemoVerb, AFormBelowItsFloorExitsWith6AfterTheReport) {
  ASSERT_EQ(demo().code, 0);
  write_floors(0.1);
  const testing::CliResult good = demo();
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_TRUE(contains(good.err, "No form is below its floor"));
  write_floors(-0.1);
  const testing::CliResult bad = demo();
  EXPECT_EQ(bad.code, 6);
  EXPECT_TRUE(contains(bad.err, "W8A16 plain: "));
  EXPECT_TRUE(contains(bad.err, "W8A16 one step: "));
  EXPECT_TRUE(contains(bad.err, "W8A16 outlier: "));
  EXPECT_TRUE(contains(bad.err, "is below its floor of "));
  EXPECT_TRUE(contains(bad.err, "floors.json"));
  EXPECT_TRUE(contains(bad.out, "W8A8_DYNAMIC"));
}

TEST_F(DemoVerb, FloorsOfOtherSettingsAreNotCheckedAndSaidSo) {
  ASSERT_EQ(demo().code, 0);
  write_floors(-0.1, 7);
  const testing::CliResult result = demo({"--steps", "2"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err,
                       "hold for 2 images, 1 of the outlier variant, 7 steps, seed 0, "
                       "guidance 2; this was 2 images, 1 of the outlier variant, 2 "
                       "steps"));
}

TEST_F(DemoVerb, SamplesAsItsFloorsWereMeasured) {
  ASSERT_EQ(demo().code, 0);
  EXPECT_EQ(report()["settings"]["steps"], "2");
  write_floors(100.0, 3);
  const testing::CliResult result = demo();
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "No form is below its floor")) << result.err;
  EXPECT_EQ(report()["settings"]["steps"], "3");
}

TEST_F(DemoVerb, RefusesWhatCannotBeDone) {
  testing::expect_refused({
      {{"demo", "--model", path("nowhere"), "--out", path("d")}, 3, "no such model folder"},
      {{"demo", "--model", model_, "--images", "3", "--out", path("d")}, 2, "at most 2, got 3"},
      {{"demo", "--model", model_, "--seed", "-3", "--out", path("d")}, 2, "got -3"},
      {{"demo", "--model", model_, "--images", "2", "--out", model_},
       2,
       "the output exists already"},
  });
}

// Equal bytes run once, whatever their names; no name is lost.
TEST(DemoForms, HoldEveryAlgorithmThatNeedsOnlyWeightsOnce) {
  std::multiset<std::string_view> names;
  for (const DemoForm& form : demo_forms()) {
    names.insert(form.row->name);
    for (const std::string_view name : form.same) {
      names.insert(name);
      EXPECT_EQ(find_algorithm(name)->contract, form.row->contract) << name;
      EXPECT_EQ(find_algorithm(name)->attention, form.row->attention) << name;
      EXPECT_EQ(find_algorithm(name)->parameters, form.row->parameters) << name;
    }
    if (form.row->name == "W8A8_DYNAMIC") {
      EXPECT_EQ(form.same, std::vector<std::string_view>{"W8A8_PER_CHANNEL_PER_TOKEN"});
    }
  }
  for (const char* name :
       {"W8A16", "W4A16", "W8A8_DYNAMIC", "W8A8_PER_TENSOR_PER_TOKEN", "W8A8_MXFP8", "W4A4_DYNAMIC",
        "W4A4_MXFP4", "W4A4_MXFP4_SVD", "FP8_DYNAMIC"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
  for (const char* name : {"W8A8", "W8A8_TIMESTEP", "W4A16_AWQ", "W8A16_GPTQ"}) {
    EXPECT_EQ(names.count(name), 0u) << name;
  }
}

TEST_F(DemoVerb, QuantizesTheLinearsOfTheBlocksButNotTheirModulation) {
  ASSERT_EQ(demo().code, 0);
  constexpr int kDouble = 12, kSingle = 5;  // one block of each kind
  constexpr int kAttentions = 2;
  const nlohmann::json made = report();
  for (const nlohmann::json& form : made["forms"]) {
    int quantized = 0;
    for (const nlohmann::json& layer : form["layers"]["layers"]) {
      if (layer["algorithm"] == "FLOAT") continue;
      const std::string name = layer["name"];
      EXPECT_TRUE(contains(name, "transformer_blocks.")) << form["algorithm"];
      EXPECT_FALSE(contains(name, ".norm")) << form["algorithm"];
      ++quantized;
    }
    EXPECT_EQ(quantized, form["algorithm"] == "FP8_DYNAMIC" ? kAttentions : kDouble + kSingle)
        << form["algorithm"];
  }
}

}  // namespace
}  // namespace mezzotint::cli
