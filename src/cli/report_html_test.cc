#include "cli/report_html.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "cli/cli_testing.h"
#include "cli/report_heatmap.h"
#include "cli/report_page.h"

namespace mezzotint::cli {
namespace {

using testing::contains;

ComparisonReport small_report() {
  ComparisonReport report;
  report.title = "T <script>alert(1)</script>";
  report.command = "mezzotint compare 'a & b'";
  report.prompts = {"a \"red\" <bag>"};
  report.reference = {.label = "float",
                      .source = "m",
                      .file_bytes = 2000,
                      .resident_bytes = 4000,
                      .step_seconds = 0.2,
                      .recognised = 1,
                      .colors_right = 1,
                      .images = {Image(2, 2, 3, 0.5f)},
                      .differences = {},
                      .captions = {"bag"},
                      .layers = {}};
  FormReport form = report.reference;
  form.label = "W8A8_DYNAMIC";
  form.step_seconds = 0.1;
  form.resident_bytes = 1000;
  form.psnr_db = 41.25;
  form.ssim = 0.9876;
  form.differences = {Image(2, 2, 3, 0.0f)};
  form.layers.layers = {{.name = "a<b",
                         .algorithm = "W8A8_DYNAMIC",
                         .reason = "",
                         .out_features = 8,
                         .in_features = 64,
                         .bytes_before = 1024,
                         .bytes_after = 544,
                         .weight_sqnr_db = 42.5}};
  report.forms = {form};
  return report;
}

TEST(ReportHtml, EscapesEveryText) {
  const std::string html = report_html(small_report());
  EXPECT_FALSE(contains(html, "<script>alert"));
  EXPECT_TRUE(contains(html, "T &lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_TRUE(contains(html, "a &quot;red&quot; &lt;bag&gt;"));
  EXPECT_TRUE(contains(html, "a&lt;b"));
  EXPECT_TRUE(contains(html, "mezzotint compare &#39;a &amp; b&#39;"));
}

TEST(ReportHtml, NeedsNoNetwork) {
  const std::string html = report_html(small_report());
  EXPECT_FALSE(contains(html, "http://"));
  EXPECT_FALSE(contains(html, "https://"));
  EXPECT_TRUE(contains(html, "default-src 'none'"));
  EXPECT_TRUE(contains(html, "src=\"data:image/png;base64,"));
}

TEST(ReportHtml, IsAFunctionOfItsArgument) {
  EXPECT_EQ(report_html(small_report()), report_html(small_report()));
}

TEST(ReportHtml, ShowsVerdictTableAndLayers) {
  const std::string html = report_html(small_report());
  EXPECT_TRUE(contains(html,
                       "W8A8_DYNAMIC runs 2.00x faster than float in 25 % of its weight "
                       "memory, at 41.2 dB PSNR and 0.9876 SSIM."));
  EXPECT_TRUE(contains(html, "1 of 1"));
  EXPECT_TRUE(contains(html, "data-v=\"42.5\""));
}

TEST(Heatmap, PlacesLayersByBlockAndRole) {
  Report report;
  for (const char* name :
       {"blocks.10.to_q", "blocks.2.to_q", "blocks.2.ff.net.0.proj", "proj_out"}) {
    LayerReport layer;
    layer.name = name;
    layer.algorithm = "W8A16";
    layer.weight_sqnr_db = 15;
    report.layers.push_back(layer);
  }
  const std::string html = heatmap_html(report);
  EXPECT_TRUE(contains(html, "<h3>blocks</h3>"));
  EXPECT_TRUE(contains(html, "<th>2</th><th>10</th>"));
  EXPECT_TRUE(contains(html, "<th>ff.net.0.proj</th>"));
  EXPECT_TRUE(contains(html, "--h:100%"));
  EXPECT_FALSE(contains(html, "proj_out"));
}

TEST(Heatmap, IsEmptyWithoutNumbers) {
  Report report;
  EXPECT_EQ(heatmap_html(report), "");
}

TEST(ComparisonReport, EqualImagesHaveNoNumberInJson) {
  ComparisonReport report = small_report();
  report.forms[0].psnr_db = std::numeric_limits<double>::infinity();
  const nlohmann::json document = comparison_json(report);
  EXPECT_TRUE(document["forms"][0]["psnr_db"].is_null());
  EXPECT_EQ(document["forms"][0]["identical"], true);
  EXPECT_TRUE(contains(verdict(report), "with identical images"));
  EXPECT_TRUE(contains(to_text(comparison_table(report)), "equal"));
}

TEST(ComparisonReport, SlowerIsCalledSlower) {
  ComparisonReport report = small_report();
  report.forms[0].step_seconds = 0.4;
  EXPECT_TRUE(contains(verdict(report), "2.00x slower than float"));
}

}  // namespace
}  // namespace mezzotint::cli
