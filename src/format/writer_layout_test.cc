#include "format/writer_layout.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/safetensors.h"

namespace mezzotint {
namespace {

const std::filesystem::path kFile = "out/m.safetensors";

TEST(WriterLayout, WideTypesComeFirstSoThatEveryTensorIsAligned) {
  const WriterLayout layout = plan_layout(kFile,
                                          {{"a", DType::kU8, {3}},
                                           {"b", DType::kF32, {1}},
                                           {"c", DType::kI8, {5}},
                                           {"d", DType::kF64, {1}},
                                           {"e", DType::kBF16, {1}}},
                                          {});
  ASSERT_EQ(layout.shards.size(), 1u);
  EXPECT_EQ(layout.shards[0].tensors, (std::vector<size_t>{3, 1, 4, 0, 2}));
  for (const PlacedTensor& t : layout.tensors) {
    EXPECT_EQ(t.offset % dtype_size(t.plan.dtype), 0) << t.plan.name;
  }
  EXPECT_EQ(layout.shards[0].header.size() % 8, 0u);
  EXPECT_EQ(layout.shards[0].file_bytes,
            static_cast<int64_t>(layout.shards[0].header.size()) + 8 + 4 + 2 + 3 + 5);
}

TEST(WriterLayout, TheHeaderIsReadByOurReader) {
  const WriterLayout layout = plan_layout(
      kFile, {{"x\"\n", DType::kBF16, {2, 3}}, {"y", DType::kF32, {}}}, {.metadata = {{"k", "v"}}});
  const std::string header = final_header(layout.shards[0], "0123456789abcdef0123456789abcdef");
  const SafetensorsHeader back = parse_safetensors_header(
      std::as_bytes(std::span(header.data(), header.size())), layout.shards[0].file_bytes, "m");
  EXPECT_EQ(back.metadata.at("mezzotint_run"), "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(back.metadata.at("k"), "v");
  EXPECT_EQ(back.tensors[1].name, "x\"\n");
  EXPECT_EQ(back.tensors[1].begin + back.data_start, layout.tensors[0].offset);
}

TEST(WriterLayout, FillsShardsInTheOrderOfThePlan) {
  const std::vector<TensorPlan> plan = {{"a", DType::kU8, {60}},
                                        {"b", DType::kU8, {40}},
                                        {"c", DType::kU8, {1}},
                                        {"d", DType::kU8, {500}},
                                        {"e", DType::kU8, {1}}};
  const WriterLayout layout = plan_layout(kFile, plan, {.max_shard_bytes = 100});
  ASSERT_EQ(layout.shards.size(), 4u) << "a tensor larger than the limit gets its own shard";
  EXPECT_EQ(layout.shards[0].tensors, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(layout.shards[2].tensors, (std::vector<size_t>{3}));
  EXPECT_EQ(layout.shards[3].file, "out/m-00004-of-00004.safetensors");
  EXPECT_EQ(layout.index, "out/m.safetensors.index.json");
}

TEST(WriterLayout, RejectsUnusablePlans) {
  const auto plan = [](std::vector<TensorPlan> tensors, const WriterOptions& options = {}) {
    return plan_layout(kFile, std::move(tensors), options);
  };
  expect_error(ErrorCode::kUsage, {"planned twice", "tensor w"}, [&] {
    plan({{"w", DType::kU8, {1}}, {"v", DType::kU8, {1}}, {"w", DType::kF32, {1}}});
  });
  expect_error(ErrorCode::kUsage, {"this name", "__metadata__"},
               [&] { plan({{"__metadata__", DType::kU8, {1}}}); });
  EXPECT_THROW(plan({{"", DType::kU8, {1}}}), Error);
  EXPECT_THROW(plan({{"\xff", DType::kU8, {1}}}), Error);
  EXPECT_THROW(plan({{"w", DType::kU8, {-1}}}), Error);
  const int64_t huge = INT64_MAX / 2 + 1;
  EXPECT_THROW(plan({{"v", DType::kU8, {huge}}, {"w", DType::kU8, {huge}}}), Error);
  EXPECT_THROW(plan({}, {.max_shard_bytes = -1}), Error);
  expect_error(ErrorCode::kUsage, {"reserved", "mezzotint_run"},
               [&] { plan({}, {.metadata = {{"mezzotint_run", "1"}}}); });
  EXPECT_THROW(plan_layout("out/m.bin", {}, {}), Error);
}

}  // namespace
}  // namespace mezzotint
