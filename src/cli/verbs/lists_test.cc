// list-algorithms, list-kernels, presets, doctor and help.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "cli/cli_testing.h"
#include "kernels/attention_op.h"
#include "kernels/registry.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {
namespace {

using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

TEST(ListAlgorithms, ShowsEveryRowOfTheFormat) {
  const CliResult result = run({"list-algorithms"});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status == AlgorithmStatus::kForeign) continue;
    EXPECT_TRUE(contains(result.out, std::string(row.name) + " "));
  }
  EXPECT_TRUE(contains(run({"list-algorithms", "--all"}).out, "FAQuant"));
}

TEST(ListAlgorithms, JsonNamesTheTensorsOfAContract) {
  const nlohmann::json document = run_json({"list-algorithms"});
  for (const nlohmann::json& row : document["algorithms"]) {
    if (row["name"] == "W8A8_DYNAMIC") {
      EXPECT_EQ(row["tensors"][0]["suffix"], "weight");
      return;
    }
  }
  ADD_FAILURE() << "no W8A8_DYNAMIC";
}

TEST(ListAlgorithms, MarkdownIsATable) {
  EXPECT_TRUE(contains(run({"list-algorithms", "--markdown"}).out, "|---|"));
}

TEST(ListKernels, ShowsEveryRowOnce) {
  const nlohmann::json document = run_json({"list-kernels"});
  EXPECT_EQ(document["kernels"].size(), linear_kernels().size() + quantize_rows_kernels().size() +
                                            quantize_mx_kernels().size() +
                                            attention_kernels().size());
}

TEST(ListKernels, AnInactiveRowSaysWhy) {
  const nlohmann::json document = run_json({"list-kernels", "--shape", "7,33,65"});
  EXPECT_FALSE(document["kernels"].empty());
  for (const nlohmann::json& row : document["kernels"]) {
    EXPECT_EQ(row["active"].get<bool>(), !row.contains("reason")) << row.dump();
  }
}

TEST(ListKernels, MarkdownDoesNotDependOnTheMachine) {
  const std::string table = run({"list-kernels", "--markdown"}).out;
  EXPECT_TRUE(contains(table, "| op | row | packed layout | needs |"));
  EXPECT_FALSE(contains(table, "active"));
}

TEST(ListKernels, SaysWhichInstructionsNoRowUses) {
  EXPECT_TRUE(contains(run({"list-kernels"}).out, "No rows use AMX or AVX-VNNI"));
  EXPECT_TRUE(contains(run({"list-kernels", "--markdown"}).out, "No rows use AMX or AVX-VNNI"));
  const nlohmann::json document = run_json({"list-kernels"});
  EXPECT_EQ(document["absent"], (nlohmann::json{"AMX", "AVX-VNNI"}));
  for (const nlohmann::json& row : document["kernels"]) {
    const std::string isa = row["isa"];
    EXPECT_FALSE(contains(isa, "amx") || isa == "avx_vnni") << row.dump();
  }
}

TEST(Presets, ListsAndExplains) {
  EXPECT_TRUE(contains(run({"presets"}).out, "flux"));
  const CliResult one = run({"presets", "flux"});
  EXPECT_EQ(one.code, 0);
  EXPECT_TRUE(contains(one.out, "x_embedder"));
  EXPECT_TRUE(contains(one.out, "Kept float"));
  EXPECT_GE(run_json({"presets"})["presets"].size(), 5u);
  EXPECT_EQ(run_json({"presets", "flux"})["name"], "flux");
}

TEST(Doctor, NamesProcessorThreadsAndMemory) {
  const CliResult result = run({"doctor", "--threads", "1"});
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* fact : {"processor", "instructions", "threads", "memory", "oneTBB"}) {
    EXPECT_TRUE(contains(result.out, fact));
  }
  EXPECT_EQ(run_json({"doctor", "--threads", "1"})["machine"]["threads"], "1");
}

TEST(Help, MarkdownHoldsEveryOptionOfQuantize) {
  const std::string text = run({"help", "--markdown"}).out;
  for (const char* part : {"`--algo NAME`", "`--rule PATTERN=ALGO`", "### quantize", "`--json`"}) {
    EXPECT_TRUE(contains(text, part));
  }
}

// docs/cli.md holds the output of help --markdown between its markers.
TEST(Help, DocsAreUpToDate) {
  const std::filesystem::path file = std::filesystem::path(MZ_SOURCE_DIR) / "docs" / "cli.md";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "docs/cli.md is not there";
  const std::string docs = file_text(file);
  const std::string begin = "<!-- generated: help -->\n";
  const size_t from = docs.find(begin);
  const size_t to = docs.find("<!-- end generated -->", from);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  EXPECT_EQ(docs.substr(from + begin.size(), to - from - begin.size()),
            run({"help", "--markdown"}).out)
      << "run ./x docs";
}

}  // namespace
}  // namespace mezzotint::cli
