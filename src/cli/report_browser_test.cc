// Reports opened in a real browser without a screen: they sort, filter, draw and report no error.
// Pictures of them stay in build/reports.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/cli_testing.h"
#include "cli/export_report.h"
#include "cli/report_html.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::contains;

// What a program prints; "" where it fails.
std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) text.append(buffer, n);
  return pclose(pipe) == 0 ? text : "";
}

// "" where there is none.
std::string browser() {
  for (const char* name :
       {"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"}) {
    const std::string found = output_of(fmt::format("command -v {}", name));
    if (!found.empty()) return found.substr(0, found.find('\n'));
  }
  return "";
}

Report layers_of(const std::string& algorithm) {
  Report report;
  const char* roles[] = {"attn.to_q", "attn.to_k", "ff.net.0.proj", "norm.linear"};
  for (int i = 0; i < 24; ++i) {
    LayerReport row = {.name = fmt::format("blocks.{}.{}", i / 4, roles[i % 4]),
                       .algorithm = i % 3 == 0 ? "W4A16" : algorithm,
                       .out_features = 64 * (1 + i % 5),
                       .in_features = 256,
                       .bytes_before = 100'000 + 1000 * i,
                       .bytes_after = 50'000 + 100 * i,
                       .weight_sqnr_db = 20.0 + (i * 7) % 24,
                       .weight_cosine = 0.999,
                       .zero_share = 0.01 * i,
                       .clip_share = 0.001 * i,
                       .outlier_ratio = 4.0 + i % 6,
                       .output_sqnr_db = 22.0 + (i * 5) % 24,
                       .output_cosine = 0.998};
    for (int step = 0; step < 20; ++step)
      row.step_errors.push_back(1e-3 * (1 + step) * (1 + i % 3));
    if (i == 5)
      row = {.name = row.name, .algorithm = "FLOAT", .reason = "at least 30 dB <are> asked for"};
    report.layers.push_back(row);
  }
  report.bytes_before = 2'700'000;
  report.bytes_after = 1'300'000;
  return report;
}

// Sorts by weight SQNR, both ways, and filters; leaves what it saw in #probe.
constexpr const char* kProbe = R"html(<script>
const probe = document.createElement("pre");
probe.id = "probe";
const seen = {};
const table = document.querySelector("table.layers");
const heads = [...table.tHead.rows[0].cells];
const column = heads.findIndex(head => head.textContent === "weight SQNR dB");
const values = () => [...table.tBodies[0].rows].map(row => row.cells[column].textContent);
const names = () =>
  [...table.tBodies[0].rows].filter(row => row.offsetParent).map(row => row.cells[0].textContent);
heads[column].click();
seen.rising = values();
heads[column].click();
seen.falling = values();
const input = document.querySelector(".find input");
input.value = "w4a16 to_q";
input.dispatchEvent(new Event("input"));
seen.found = names();
seen.count = document.querySelector(".find span").textContent;
input.value = "";
input.dispatchEvent(new Event("input"));
seen.all = names().length;
seen.charts = [...document.querySelectorAll("svg.chart")].map(c => c.getBoundingClientRect().height > 50);
seen.heat = document.querySelectorAll("table.heat td[style]").length;
seen.images = [...document.images].map(image => image.naturalWidth);
probe.textContent = JSON.stringify(seen);
document.body.append(probe);
</script>)html";

class ReportInABrowser : public ::testing::Test {
 protected:
  void SetUp() override {
    browser_ = browser();
    if (!browser_.empty()) return;
    const char* ci = std::getenv("CI");
    ASSERT_FALSE(ci != nullptr && std::string(ci) == "true")
        << "chromium-headless-shell is missing";
    GTEST_SKIP() << "no Chromium: ./x setup browser";
  }

  // What the probe saw; the screenshot is build/reports/NAME.png.
  nlohmann::json open(const std::string& name, std::string html) const {
    const fs::path pictures = fs::path(MZ_SOURCE_DIR) / "build" / "reports";
    fs::create_directories(pictures);
    fs::remove(pictures / (name + ".png"));
    html.insert(html.rfind("</body>"), kProbe);
    write_text(folder_ / (name + ".html"), html);
    const std::string dom = output_of(fmt::format(
        "HOME='{0}' '{1}' --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,2600 "
        "--user-data-dir='{0}/profile' --virtual-time-budget=5000 --screenshot='{2}/{3}.png' "
        "--dump-dom 'file://{0}/{3}.html' 2>/dev/null",
        folder_.path().string(), browser_, pictures.string(), name));
    EXPECT_GT(fs::file_size(pictures / (name + ".png")), 20'000u);
    const std::string mark = "<pre id=\"probe\">";
    const size_t begin = dom.find(mark);
    if (begin == std::string::npos) return {};
    const size_t end = dom.find("</pre>", begin);
    return nlohmann::json::parse(dom.substr(begin + mark.size(), end - begin - mark.size()));
  }

  static std::vector<double> numbers(const nlohmann::json& texts) {
    std::vector<double> values;
    for (const std::string text : texts) {
      if (!text.empty()) values.push_back(std::stod(text));
    }
    return values;
  }

  static void expect_sorted_and_filtered(const nlohmann::json& seen) {
    ASSERT_TRUE(seen.is_object());
    std::vector<double> rising = numbers(seen["rising"]);
    EXPECT_EQ(rising.size(), 23u);
    EXPECT_TRUE(std::ranges::is_sorted(rising));
    EXPECT_EQ(seen["rising"].back(), "");  // the float layer has none and comes last
    EXPECT_TRUE(std::ranges::is_sorted(numbers(seen["falling"]), std::greater()));
    EXPECT_EQ(seen["falling"].back(), "");
    // Layers 0, 12: every third is W4A16, every fourth a to_q.
    std::vector<std::string> found = seen["found"];
    std::ranges::sort(found);
    EXPECT_EQ(found, (std::vector<std::string>{"blocks.0.attn.to_q", "blocks.3.attn.to_q"}));
    EXPECT_EQ(seen["count"], "2 of 24 layers");
    EXPECT_EQ(seen["all"], 24);
    EXPECT_EQ(seen["heat"], 23);
  }

  TestFolder folder_;
  std::string browser_;
};

TEST_F(ReportInABrowser, AnExportsTableSortsAndFilters) {
  ExportReport report = {.source = "model",
                         .label = "mixed",
                         .command = "mezzotint quantize model -o out --target-size 1.3MB",
                         .report = layers_of("W8A8_DYNAMIC"),
                         .sizes = {{"W8A8_DYNAMIC", 1'500'000, 0.02}, {"W4A16", 900'000, 0.4}},
                         .chosen = SizePoint{"chosen", 1'300'000, 0.03},
                         .layers_analyzed = 23,
                         .environment = {{"processor", "any"}}};
  for (int i = 0; i < 10; ++i) {
    report.sizes.push_back({"", 900'000 + 150'000 * i, 0.3 / (1 + i * i)});
  }
  const nlohmann::json seen = open("export", export_html(report));
  expect_sorted_and_filtered(seen);
  EXPECT_EQ(seen["charts"], (std::vector<bool>{true, true}));
}

TEST_F(ReportInABrowser, AComparisonShowsItsImages) {
  ComparisonReport report;
  report.title = "Float against quantized";
  report.command = "mezzotint compare model --quant q";
  report.prompts = {"a red bag", "a blue bag"};
  report.reference.label = "float";
  for (int i = 0; i < 2; ++i) report.reference.images.push_back(Image(16, 16, 3, 0.3f));
  report.reference.step_seconds = 0.2;
  for (const char* label : {"W8A8_DYNAMIC", "W4A4_MXFP4"}) {
    FormReport form = report.reference;
    form.label = label;
    form.file_bytes = 1'000'000 + static_cast<int64_t>(report.forms.size()) * 500'000;
    form.psnr_db = 30 + 5 * static_cast<double>(report.forms.size());
    form.differences = {Image(16, 16, 3, 0.1f), Image(16, 16, 3, 0.0f)};
    form.layers = layers_of(label);
    report.forms.push_back(form);
  }
  std::string html = report_html(report);
  // The probe looks at the first table, which is folded.
  const size_t fold = html.find("<details class=\"card\">");
  ASSERT_NE(fold, std::string::npos);
  html.replace(fold, 22, "<details open class=\"card\">");
  const nlohmann::json seen = open("comparison", html);
  ASSERT_TRUE(seen.is_object());
  EXPECT_EQ(seen["charts"].size(), 3u);  // sizes, and the steps of two forms
  EXPECT_EQ(seen["images"].size(), 10u);
  for (const int width : seen["images"]) EXPECT_EQ(width, 16);
  EXPECT_EQ(numbers(seen["rising"]).size(), 23u);
}

}  // namespace
}  // namespace mezzotint::cli
