#include <gtest/gtest.h>

#include "base/scoped_env.h"
#include "format/expect_error.h"
#include "format/temp_folder.h"
#include "mezzotint/descriptor.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kW8A8 = R"({"w":"W8A8","model_quant_type":"W8A8"})";

class FindQuantizedFiles : public testing::Test {
 protected:
  // Descriptor and weights as relative names.
  std::pair<std::string, std::string> find(const std::string& name,
                                           std::optional<int> rank = std::nullopt) {
    files_ = find_quantized_files(folder_.path() / name, rank);
    return {files_.descriptor.filename().string(), files_.weights.filename().string()};
  }
  void add(const std::string& name) {
    folder_.write(name, name.ends_with(".json") && !name.ends_with(".index.json") ? kW8A8 : "x");
  }
  void set_world(const char* rank) {
    rank_.emplace("RANK", rank);
    world_.emplace("WORLD_SIZE", "8");
  }

  TempFolder folder_;
  QuantizedFiles files_;

 private:
  const ScopedEnv no_ompi_{"OMPI_COMM_WORLD_RANK", nullptr};
  const ScopedEnv no_pmi_{"PMI_RANK", nullptr};
  const ScopedEnv no_rank_{"RANK", nullptr};
  std::optional<ScopedEnv> rank_;
  std::optional<ScopedEnv> world_;
};

using Pair = std::pair<std::string, std::string>;

TEST_F(FindQuantizedFiles, TakesAnyDescriptorNameAndTheTypesWeights) {
  add("d.json");
  add("quant_model_weight_w8a8.safetensors");
  EXPECT_EQ(find("d.json"), Pair("d.json", "quant_model_weight_w8a8.safetensors"));
  EXPECT_EQ(files_.rank, std::nullopt);
}

TEST_F(FindQuantizedFiles, ANumericSuffixIsTheRankAndNeedsNoDistributedRun) {
  add("q_w8a8_0.json");
  add("quant_model_weight_w8a8.safetensors");
  add("quant_model_weight_w8a8_0.safetensors");
  EXPECT_EQ(find("q_w8a8_0.json"), Pair("q_w8a8_0.json", "quant_model_weight_w8a8_0.safetensors"));
  EXPECT_EQ(files_.rank, 0);
}

TEST_F(FindQuantizedFiles, UsesTheUnsuffixedWeightsOfASuffixedDescriptor) {
  add("q_w8a8_0.json");
  add("quant_model_weight_w8a8.safetensors");
  EXPECT_EQ(find("q_w8a8_0.json").second, "quant_model_weight_w8a8.safetensors");
}

TEST_F(FindQuantizedFiles, ReplacesTheRankByArgumentBeforeEnvironment) {
  for (const char* rank : {"0", "2", "3"}) {
    add("q_" + std::string(rank) + ".json");
    add("quant_model_weight_w8a8_" + std::string(rank) + ".safetensors");
  }
  set_world("3");
  EXPECT_EQ(find("q_0.json"), Pair("q_3.json", "quant_model_weight_w8a8_3.safetensors"));
  EXPECT_EQ(find("q_0.json", 2), Pair("q_2.json", "quant_model_weight_w8a8_2.safetensors"));
  EXPECT_EQ(files_.rank, 2);
}

TEST_F(FindQuantizedFiles, NeverTakesAnotherRanksDescriptor) {
  add("q_0.json");
  add("quant_model_weight_w8a8_0.safetensors");
  expect_error(ErrorCode::kInput,
               {"no such descriptor: expected q_3.json, q.json, got q_0.json", "q_0.json"},
               [&] { find("q_0.json", 3); });
}

TEST_F(FindQuantizedFiles, TheTwinStandsInBothDirections) {
  add("q.json");
  add("p_0.json");
  add("quant_model_weight_w8a8.safetensors");
  EXPECT_EQ(find("q_0.json").first, "q.json");
  EXPECT_EQ(find("p.json").first, "p_0.json");
  EXPECT_EQ(files_.rank, 0);
  add("p_1.json");
  EXPECT_EQ(find("p.json", 1).first, "p_1.json");
  expect_error(ErrorCode::kUsage, {"several descriptors", "p_0.json, p_1.json"},
               [&] { find("p.json"); });
}

TEST_F(FindQuantizedFiles, AnExplicitRankPrefersItsOwnFile) {
  add("q.json");
  add("quant_model_weight_w8a8.safetensors");
  EXPECT_EQ(find("q.json", 1).first, "q.json");
  add("q_1.json");
  EXPECT_EQ(find("q.json", 1).first, "q_1.json");
  set_world("1");
  EXPECT_EQ(find("q.json").first, "q.json") << "the environment replaces digits only";
}

TEST_F(FindQuantizedFiles, AFolderMustHoldOneDescriptor) {
  expect_error(ErrorCode::kInput, {"no descriptor", "quant_model_description*.json", "got nothing"},
               [&] { find(""); });
  add("config.json");
  add("quant_model_description_w8a8_0.json");
  add("quant_model_weight_w8a8_0.safetensors");
  EXPECT_EQ(find(""),
            Pair("quant_model_description_w8a8_0.json", "quant_model_weight_w8a8_0.safetensors"));
  add("quant_model_description_w8a8_1.json");
  add("quant_model_weight_w8a8_1.safetensors");
  expect_error(ErrorCode::kUsage,
               {"several descriptors",
                "quant_model_description_w8a8_0.json, "
                "quant_model_description_w8a8_1.json"},
               [&] { find(""); });
  EXPECT_EQ(find("", 1).first, "quant_model_description_w8a8_1.json");
  expect_error(ErrorCode::kUsage, {"exactly one descriptor for rank 5"}, [&] { find("", 5); });
}

TEST_F(FindQuantizedFiles, KnowsEveryWeightName) {
  add("q.json");
  const char* names[] = {"quant_model_weights-whole.safetensors",
                         "quant_model_weight.safetensors.index.json",
                         "quant_model_weight_w8a8.safetensors.index.json"};
  for (const char* name : names) {
    add(name);
    EXPECT_EQ(find("q.json").second, name);
  }
  EXPECT_EQ(find("q.json", 4).second, names[2]);
  add("quant_model_weight_w8a8_4.safetensors");
  EXPECT_EQ(find("q.json", 4).second, "quant_model_weight_w8a8_4.safetensors");
  EXPECT_EQ(files_.rank, 4);
}

TEST_F(FindQuantizedFiles, ShardsOfThePluralSpellingAreNotWholeFiles) {
  add("q.json");
  add("quant_model_weights-00001-of-00002.safetensors");
  add("quant_model_weights-00002-of-00002.safetensors");
  EXPECT_THROW(find("q.json"), Error);
  add("quant_model_weights.safetensors.index.json");
  EXPECT_EQ(find("q.json").second, "quant_model_weights.safetensors.index.json");
}

TEST_F(FindQuantizedFiles, SaysWhatItTriedAndWhatLiesThere) {
  add("q_0.json");
  add("quant_model_weight_w4a16.safetensors");
  expect_error(ErrorCode::kInput,
               {"no weights beside the descriptor",
                "quant_model_weight_w8a8_0.safetensors[.index.json], "
                "quant_model_weight_w8a8.safetensors[.index.json], "
                "quant_model_weight.safetensors[.index.json], quant_model_weights*",
                "got q_0.json, quant_model_weight_w4a16.safetensors", "q_0.json"},
               [&] { find("q_0.json"); });
}

TEST_F(FindQuantizedFiles, RejectsWeightsGivenAsDescriptor) {
  add("quant_model_weight_w8a8.safetensors");
  expect_error(ErrorCode::kInput, {"not a descriptor"},
               [&] { find("quant_model_weight_w8a8.safetensors"); });
  expect_error(ErrorCode::kInput, {"no such file or folder", "nowhere"}, [&] { find("nowhere"); });
  expect_error(ErrorCode::kUsage, {"rank is negative"}, [&] { find("q.json", -1); });
}

TEST(FileNames, AreThoseOfTheUpstreamDocument) {
  EXPECT_EQ(descriptor_file_name("W8A8_DYNAMIC", std::nullopt),
            "quant_model_description_w8a8_dynamic.json");
  EXPECT_EQ(descriptor_file_name("W8A16", 0), "quant_model_description_w8a16_0.json");
  EXPECT_EQ(weight_file_name("W8A16", 3), "quant_model_weight_w8a16_3.safetensors");
  EXPECT_EQ(weight_file_name("", std::nullopt), "quant_model_weight.safetensors");
}

}  // namespace
}  // namespace mezzotint
