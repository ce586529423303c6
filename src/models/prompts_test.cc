#include "models/prompts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

TEST(Prompts, ReadsTheDemo) {
  const PromptSet set = read_prompts(fs::path(MZ_SOURCE_DIR) / "demo");
  ASSERT_GE(set.prompts.size(), 16u);
  EXPECT_EQ(set.prompts[1].id, 1);
  EXPECT_FALSE(set.prompts[1].text.empty());
  EXPECT_EQ(set.embeddings.count(), static_cast<int64_t>(set.prompts.size()));
  EXPECT_EQ(set.embeddings.rows.states.dim(2), 384);
  EXPECT_EQ(set.embeddings.rows.pooled.dim(1), 768);
  ASSERT_TRUE(set.embeddings.null_condition.has_value());
  EXPECT_EQ(set.embeddings.null_condition->states.shape(), (Shape{1, 16, 384}));
}

struct Tensors {
  Shape states{3, 2, 4}, pooled{3, 5}, null_states{2, 4}, null_pooled{5};
  DType dtype = DType::kF32;
};

fs::path write_embeddings(const Tensors& t) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("prompts"));
  const fs::path file = folder / "prompts.safetensors";
  const std::vector<TensorPlan> plan{{"states", t.dtype, t.states},
                                     {"pooled", DType::kF32, t.pooled},
                                     {"null_states", DType::kF32, t.null_states},
                                     {"null_pooled", DType::kF32, t.null_pooled}};
  Writer writer(file, plan);
  for (const TensorPlan& p : plan) {
    if (p.dtype == DType::kF32) {
      writer.put(p.name, testing::named_noise(p.name, 0, p.shape));
    } else {
      writer.put(p.name, Tensor::allocate(p.dtype, p.shape));
    }
  }
  writer.finish();
  return file;
}

TEST(Embeddings, SelectsRowsInAnyOrder) {
  const Embeddings embeddings = read_embeddings(write_embeddings({}));
  const std::vector<int64_t> ids{2, 0, 2};
  const TextCondition selected = embeddings.select(ids);
  EXPECT_EQ(selected.states.shape(), (Shape{3, 2, 4}));
  const auto all = testing::values_of(embeddings.rows.pooled);
  const auto some = testing::values_of(selected.pooled);
  EXPECT_TRUE(std::ranges::equal(some.subspan(0, 5), all.subspan(10, 5)));
  EXPECT_TRUE(std::ranges::equal(some.subspan(5, 5), all.subspan(0, 5)));
  EXPECT_THROW(embeddings.select(std::vector<int64_t>{3}), Error);
  EXPECT_THROW(embeddings.select(std::vector<int64_t>{-1}), Error);
}

TEST(Embeddings, TakesOnePromptWithoutALeadingDimension) {
  const Embeddings one = read_embeddings(write_embeddings({.states = {2, 4}, .pooled = {5}}));
  EXPECT_EQ(one.count(), 1);
  EXPECT_EQ(one.rows.states.shape(), (Shape{1, 2, 4}));
}

TEST(Embeddings, RefusesTensorsThatDisagree) {
  EXPECT_NO_THROW(read_embeddings(write_embeddings({})));
  EXPECT_THROW(read_embeddings(write_embeddings({.pooled = {2, 5}})), Error);
  EXPECT_THROW(read_embeddings(write_embeddings({.null_states = {3, 4}})), Error);
  EXPECT_THROW(read_embeddings(write_embeddings({.null_states = {2, 3}})), Error);
  EXPECT_THROW(read_embeddings(write_embeddings({.null_pooled = {4}})), Error);
  EXPECT_THROW(read_embeddings(write_embeddings({.states = {1, 3, 2, 4}})), Error);
  EXPECT_THROW(read_embeddings(write_embeddings({.dtype = DType::kI32})), Error);
}

TEST(Prompts, NamesFileAndKeyOfAFault) {
  const fs::path folder = write_embeddings({.states = {1, 2, 4}, .pooled = {1, 5}}).parent_path();
  const std::string good = R"([{"id": 0, "text": "a red bag", "class": 8, "class_name": "bag",
    "object_color": "red", "background_color": "blue"}])";
  testing::write_text(folder / "prompts.json", good);
  EXPECT_EQ(read_prompts(folder).prompts.front().object_color, "red");
  const std::pair<std::string, std::string> faults[] = {{R"("id": 0)", R"("id": 1)"},
                                                        {R"("text")", R"("prompt")"},
                                                        {R"("class": 8)", R"("class": "bag")"},
                                                        {"[{", "{"},
                                                        {"}]", "}, {}]"}};
  for (const auto& [from, to] : faults) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    testing::write_text(folder / "prompts.json", text);
    std::string message = "no error";
    try {
      read_prompts(folder);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("prompts.json"), message.npos) << to << ": " << message;
  }
}

}  // namespace
}  // namespace mezzotint
