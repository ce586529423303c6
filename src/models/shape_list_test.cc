#include "models/shape_list.h"

#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temp_folder.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

std::filesystem::path shapes_of(const std::string& model) {
  return std::filesystem::path(MZ_SOURCE_DIR) / "bench" / "shapes" / (model + ".txt");
}

double weights(const ShapeList& list) {
  double sum = 0;
  for (const LinearShape& s : list.linears) sum += static_cast<double>(s.n * s.k * s.calls);
  return sum;
}

// The published sizes of the models, in units of 10^9 weights of linears.
TEST(ShapeList, HoldsEveryLinearOfTheModels) {
  const std::pair<const char*, double> sizes[] = {
      {"flux", 11.90}, {"qwen_image", 20.42}, {"wan", 14.28}, {"sd3", 8.05}, {"hunyuan", 12.82}};
  for (const auto& [model, billions] : sizes) {
    EXPECT_NEAR(weights(read_shape_list(shapes_of(model))) / 1e9, billions, 0.006) << model;
  }
}

TEST(ShapeList, ResolvesRowsByResolution) {
  const ShapeList first = read_shape_list(shapes_of("flux"));
  EXPECT_EQ(first.resolution, "1024x1024");
  EXPECT_EQ(first.attentions.at(0).q, 4608);
  const ShapeList small = read_shape_list(shapes_of("flux"), "512x512");
  EXPECT_EQ(small.attentions.at(0).q, 1536);
  const auto named = [&](const ShapeList& list, const std::string& name) {
    return std::ranges::find(list.linears, name, &LinearShape::name)->m;
  };
  EXPECT_EQ(named(small, "transformer_blocks.*.attn.to_q"), 1024);
  EXPECT_EQ(named(small, "context_embedder"), 512);
  EXPECT_EQ(named(small, "single_transformer_blocks.*.proj_out"), 1536);
  EXPECT_EQ(named(small, "norm_out.linear"), 1);
  expect_error(ErrorCode::kUsage, {"no such resolution", "1024x1024, 512x512", "7x7"},
               [] { read_shape_list(shapes_of("flux"), "7x7"); });
}

TEST(ShapeList, MergesShapesThatAreComputedAlike) {
  const ShapeList flux = read_shape_list(shapes_of("flux"));
  const std::vector<LinearShape> merged = distinct(flux.linears);
  EXPECT_LT(merged.size(), flux.linears.size());
  double sum = 0;
  for (const LinearShape& s : merged) sum += static_cast<double>(s.n * s.k * s.calls);
  EXPECT_EQ(sum, weights(flux));
  const auto it =
      std::ranges::find(merged, "single_transformer_blocks.*.attn.to_q", &LinearShape::name);
  ASSERT_NE(it, merged.end());
  EXPECT_EQ(it->calls, 114);
}

TEST(ShapeList, NamesTheLineThatIsDamaged) {
  const TempFolder folder;
  const auto write = [&](const std::string& text) { return folder.write("s.txt", text); };
  expect_error(ErrorCode::kInput, {"line 3", "linear img 3072"},
               [&] { read_shape_list(write("model m # name\n\nlinear img 3072\n")); });
  for (const char* rows : {"0", "-4", "12x", "img", "99999999999999999999"}) {
    const std::string text = fmt::format("model m\nlinear {} 32 32 1 a\n", rows);
    expect_error(ErrorCode::kInput, {"line 2", rows}, [&] { read_shape_list(write(text)); });
  }
  expect_error(ErrorCode::kInput, {"no linear"}, [&] { read_shape_list(write("model m\n")); });
  expect_error(ErrorCode::kInput, {"cannot be read"}, [] { read_shape_list("/nowhere/s.txt"); });
  expect_error(ErrorCode::kInput, {"cannot be read"}, [] { read_shape_list("/dev/zero"); });
}

}  // namespace
}  // namespace mezzotint
