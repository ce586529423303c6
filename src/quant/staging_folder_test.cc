#include "quant/staging_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDescriptor = "quant_model_description_w8a16.json";
constexpr const char* kWeights = "quant_model_weight_w8a16.safetensors";

StagingOptions options(Leftover leftover, Existing existing = Existing::kRefuse) {
  return {.rank = {}, .existing = existing, .leftover = leftover, .recipe = "r"};
}

void make_files(const StagingFolder& staging, const std::string& text) {
  staging.write(kDescriptor, text);
  staging.write(kWeights, text);
  staging.write("config.json", text);
}

TEST(StagingFolder, ShowsNothingBeforePublishing) {
  TestFolder folder;
  StagingFolder staging(folder / "out", options(Leftover::kDiscard));
  make_files(staging, "new");
  staging.mark_complete();
  EXPECT_FALSE(fs::exists(folder / "out" / kDescriptor));
  staging.publish();
  EXPECT_EQ(file_text(folder / "out" / kDescriptor), "new");
  EXPECT_EQ(file_text(folder / "out" / kWeights), "new");
  EXPECT_FALSE(fs::exists(folder / "out/.partial"));
}

// Killed between two renames: old descriptor gone, new weights in place, the rest still staged.
TEST(StagingFolder, PublishingGoesOnWhereItWasKilled) {
  TestFolder folder;
  const fs::path out = folder / "out";
  fs::create_directories(out);
  write_text(out / "quant_model_weight_w4a16.safetensors", "old");
  {
    StagingFolder staging(out, options(Leftover::kDiscard, Existing::kReplace));
    make_files(staging, "new");
    staging.mark_complete();
    fs::rename(staging.partial() / kWeights, out / kWeights);
  }
  StagingFolder staging(out, options(Leftover::kResume));
  EXPECT_TRUE(staging.resumed());
  ASSERT_TRUE(staging.complete());
  staging.publish();
  EXPECT_EQ(file_text(out / kWeights), "new");
  EXPECT_EQ(file_text(out / kDescriptor), "new");
  EXPECT_FALSE(fs::exists(out / "quant_model_weight_w4a16.safetensors"));
  EXPECT_FALSE(fs::exists(out / ".partial"));
}

TEST(StagingFolder, OneProcessAtATime) {
  TestFolder folder;
  const StagingFolder first(folder / "out", options(Leftover::kDiscard));
  first.write("config.json", "mine");
  const Error error =
      error_of([&] { StagingFolder second(folder / "out", options(Leftover::kDiscard)); });
  EXPECT_NE(std::string(error.what()).find("another process is writing"), std::string::npos)
      << error.what();
  EXPECT_EQ(file_text(first.partial() / "config.json"), "mine");
}

TEST(StagingFolder, AFileInThePlaceOfTheFolderIsRefused) {
  TestFolder folder;
  write_text(folder / "out", "mine");
  EXPECT_EQ(error_of([&] { StagingFolder s(folder / "out", options(Leftover::kDiscard)); }).code(),
            ErrorCode::kUsage);
  EXPECT_EQ(file_text(folder / "out"), "mine");
}

TEST(StagingFolder, AnotherRecipeIsNotResumed) {
  TestFolder folder;
  {
    const StagingFolder staging(folder / "out", options(Leftover::kDiscard));
  }
  StagingOptions other = options(Leftover::kResume);
  other.recipe = "s";
  const Error error = error_of([&] { StagingFolder s(folder / "out", other); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("was another one"), std::string::npos);
}

// Killed before the recipe was there, and killed after it was taken away again.
TEST(StagingFolder, ALeftoverWithoutARecipeIsNoRunToGoOnWith) {
  TestFolder folder;
  fs::create_directories(folder / "out/.partial");
  write_text(folder / "out/.partial/lock", "");
  {
    const StagingFolder staging(folder / "out", options(Leftover::kResume));
    EXPECT_FALSE(staging.resumed());
  }
  fs::remove(folder / "out/.partial/recipe");
  write_text(folder / "out/.partial/complete", kDescriptor);
  write_text(folder / "out" / kDescriptor, "made");
  const Error error =
      error_of([&] { StagingFolder s(folder / "out", options(Leftover::kResume)); });
  EXPECT_NE(std::string(error.what()).find("holds files already"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "out/.partial"));
  EXPECT_EQ(file_text(folder / "out" / kDescriptor), "made");
}

TEST(StagingFolder, RanksReplaceOnlyTheirOwnFiles) {
  TestFolder folder;
  fs::create_directories(folder / "out");
  for (const char* name :
       {"quant_model_description_w8a16_0.json", "quant_model_description_w8a16_1.json",
        "quant_model_weight_w8a16_1-00001-of-00002.safetensors"}) {
    write_text(folder / "out" / name, "old");
  }
  StagingOptions rank = options(Leftover::kDiscard, Existing::kReplace);
  rank.rank = 1;
  StagingFolder staging(folder / "out", rank);
  staging.write("quant_model_description_w8a16_1.json", "new");
  staging.mark_complete();
  staging.publish();
  EXPECT_EQ(file_text(folder / "out/quant_model_description_w8a16_0.json"), "old");
  EXPECT_EQ(file_text(folder / "out/quant_model_description_w8a16_1.json"), "new");
  EXPECT_FALSE(fs::exists(folder / "out/quant_model_weight_w8a16_1-00001-of-00002.safetensors"));
}

}  // namespace
}  // namespace mezzotint
