#include "mezzotint/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace mezzotint {
namespace {

Report sample() {
  Report report;
  report.layers = {{.name = "a", .algorithm = "W8A16", .reason = {}, .weight_sqnr_db = 40.5},
                   {.name = "b", .algorithm = "FLOAT", .reason = "label FLOAT"},
                   {.name = "c", .algorithm = "W8A16", .reason = {}}};
  report.unmatched = {"x"};
  report.bytes_before = 22'100'000'000;
  report.bytes_after = 11'300'000;
  return report;
}

TEST(Report, CountsAndSummarises) {
  EXPECT_EQ(sample().quantized(), 2);
  EXPECT_EQ(sample().kept(), 1);
  EXPECT_EQ(summary(sample()), "2 quantized, 1 kept float, 1 unmatched; 22.1 GB -> 11.3 MB");
}

TEST(Report, JsonHoldsEveryLayer) {
  const nlohmann::json json = nlohmann::json::parse(to_json(sample()));
  EXPECT_EQ(json["quantized"], 2);
  EXPECT_EQ(json["layers"].size(), 3u);
  EXPECT_EQ(json["layers"][0]["weight_sqnr_db"], 40.5);
  EXPECT_FALSE(json["layers"][2].contains("weight_sqnr_db"));
  EXPECT_EQ(json["layers"][1]["reason"], "label FLOAT");
  EXPECT_EQ(json["unmatched"][0], "x");
}

TEST(Report, NamesThatAreNoUtf8DoNotThrow) {
  Report report = sample();
  report.layers[0].name = "\xff\xfe";
  EXPECT_FALSE(nlohmann::json::parse(to_json(report)).empty());
}

}  // namespace
}  // namespace mezzotint
