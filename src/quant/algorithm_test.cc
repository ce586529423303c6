#include "quant/algorithm.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "mezzotint/error.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

LayerFile file_of(const LayerTensors& tensors) {
  return {.layer = "l",
          .prefix = "l",
          .file = "memory",
          .tensor = [tensors](const std::string& name) -> std::optional<Tensor> {
            for (const NamedTensor& t : tensors) {
              if (t.name == name) return t.tensor;
            }
            return std::nullopt;
          }};
}

TEST(Algorithms, AreFoundInAnyCase) {
  EXPECT_EQ(find_algorithm("w8a8_dynamic")->name, "W8A8_DYNAMIC");
  EXPECT_EQ(find_algorithm("W8a16")->name, "W8A16");
  EXPECT_EQ(find_algorithm("W8A1"), nullptr);
  EXPECT_TRUE(is_float_label("Float"));
  EXPECT_EQ(find_algorithm("w4a4_mxfp4_dynamic")->canonical, "W4A4_MXFP4");
}

// Every name of the two tables of the upstream document, and every value of its enum.
TEST(Algorithms, EveryUpstreamNameIsKnown) {
  for (const char* name : {"W8A16",
                           "W4A16",
                           "W4A16_AWQ",
                           "W8A16_GPTQ",
                           "W4A16_GPTQ",
                           "W8A8",
                           "W8A8_TIMESTEP",
                           "W8A8_DYNAMIC",
                           "W8A8_PER_CHANNEL",
                           "W8A8_PER_TENSOR",
                           "W8A8_MXFP8",
                           "W4A4_DYNAMIC",
                           "W4A4_MXFP4_SVD",
                           "W4A4_MXFP4_DUALSCALE",
                           "W4A4_MXFP4_DYNAMIC",
                           "W4A4_MXFP4",
                           "W4A8_AWQ",
                           "W8A8_PER_CHANNEL_PER_TOKEN",
                           "W8A8_PER_CHANNEL_PER_TENSOR",
                           "W8A8_PER_TENSOR_PER_TOKEN",
                           "INT8",
                           "MIXED_PERCISION",
                           "FP8_DYNAMIC",
                           "NO_QUANT"}) {
    EXPECT_NE(find_algorithm(name), nullptr) << name;
  }
}

TEST(Algorithms, NamesAreUniqueAndServedOnesHaveAContract) {
  std::set<std::string_view> names;
  for (const AlgorithmRow& row : algorithm_rows()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.contract != nullptr, row.status == AlgorithmStatus::kServed) << row.name;
    EXPECT_FALSE(row.summary.empty()) << row.name;
    if (row.contract == nullptr) continue;
    EXPECT_EQ(row.contract->params.front().suffix, "weight");
  }
}

TEST(Algorithms, UnknownAndUnservedNamesAreErrorsThatHelp) {
  const Error unknown = error_of([] { served_algorithm("W8A8_DYNAMC", {.layer = "b.0"}); });
  EXPECT_EQ(unknown.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(unknown.what()).find("unknown algorithm"), std::string::npos);
  EXPECT_NE(std::string(unknown.what()).find("did you mean W8A8_DYNAMIC"), std::string::npos);
  EXPECT_EQ(unknown.details().layer, "b.0");
  const Error planned = error_of([] { served_algorithm("w4a16"); });
  EXPECT_EQ(planned.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(planned.what()).find("algorithm W4A16 is not served by this version"),
            std::string::npos);
}

// --- contracts
// ------------------------------------------------------------------------------------

class Contracts : public testing::TestWithParam<const AlgorithmRow*> {};

std::vector<const AlgorithmRow*> served_rows() {
  std::vector<const AlgorithmRow*> rows;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status == AlgorithmStatus::kServed) rows.push_back(&row);
  }
  return rows;
}

TEST_P(Contracts, WhatIsWrittenIsWhatWasPlanned) {
  std::mt19937_64 random(1);
  for (const bool bias : {false, true}) {
    FloatLayer layer = {
        .name = "a.b", .weight = normal_tensor(DType::kBF16, {7, 33}, random), .bias = {}};
    if (bias) layer.bias = normal_tensor(DType::kF16, {7}, random);
    const LayerTensors written = write_layer_params(*GetParam(), layer, context());
    const std::vector<PlannedTensor> planned = plan_layer_tensors(
        *GetParam(), "a.b", {.n = 7, .k = 33}, bias ? HasBias::kYes : HasBias::kNo);
    ASSERT_EQ(written.size(), planned.size());
    EXPECT_EQ(written.size(), bias ? 4u : 3u);
    for (size_t i = 0; i < written.size(); ++i) {
      EXPECT_EQ(written[i].name, planned[i].tensor.name);
      EXPECT_EQ(written[i].label, planned[i].label);
      EXPECT_EQ(written[i].tensor.dtype(), planned[i].tensor.dtype);
      EXPECT_EQ(written[i].tensor.shape(), planned[i].tensor.shape);
    }
  }
}

TEST_P(Contracts, WriteTheDocumentedTensors) {
  std::mt19937_64 random(2);
  const FloatLayer layer = {.name = "l",
                            .weight = normal_tensor(DType::kF32, {5, 40}, random),
                            .bias = normal_tensor(DType::kBF16, {5}, random)};
  const LayerTensors t = write_layer_params(*GetParam(), layer, context());
  const std::string label(GetParam()->name);
  const auto expect = [&](size_t i, const char* name, const std::string& text, DType dtype,
                          const Shape& shape) {
    EXPECT_EQ(t[i].name, name);
    EXPECT_EQ(t[i].label, text);
    EXPECT_EQ(t[i].tensor.dtype(), dtype);
    EXPECT_EQ(t[i].tensor.shape(), shape);
  };
  expect(0, "l.weight", label, DType::kI8, {5, 40});
  expect(1, "l.weight_scale", label, DType::kF32, {5, 1});
  expect(2, "l.weight_offset", label, DType::kF32, {5, 1});
  expect(3, "l.bias", "FLOAT", DType::kF32, {5});
  for (int64_t i = 0; i < 5; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, t[1].tensor.raw() + 4 * i, 4);
    EXPECT_EQ(bits & 0xffff, 0u);  // representable in bf16
    EXPECT_EQ(t[2].tensor.data<float>()[i], 0.0f);
  }
}

TEST_P(Contracts, ReadingGivesBackWhatWasWritten) {
  std::mt19937_64 random(3);
  const FloatLayer layer = {.name = "l",
                            .weight = normal_tensor(DType::kF32, {9, 70}, random),
                            .bias = normal_tensor(DType::kF32, {9}, random)};
  const LayerTensors t = write_layer_params(*GetParam(), layer, context());
  const LinearParams params = read_layer_params(*GetParam(), file_of(t));
  EXPECT_EQ(params.algorithm, GetParam()->canonical);
  EXPECT_EQ(params.plan.n, 9);
  EXPECT_EQ(params.plan.k, 70);
  EXPECT_TRUE(params.plan.has_bias);
  EXPECT_EQ(params.plan.prologue, Prologue::kNone);
  EXPECT_TRUE(same_bytes(params.codes, t[0].tensor));
  EXPECT_TRUE(same_bytes(params.weight_scale, t[1].tensor.reshaped({9})));
  EXPECT_TRUE(same_bytes(params.bias, *layer.bias));
}

TEST_P(Contracts, ReadEveryRandomValidFile) {
  std::mt19937_64 random(4);
  int cases = 0;
  for (int i = 0; i < 100; ++i) {
    const LayerDims dims = {.n = 1 + static_cast<int64_t>(random() % 40),
                            .k = 1 + static_cast<int64_t>(random() % 90)};
    const RandomLayerOptions options = {
        .dims = dims, .bias = random() % 2 == 0, .smoothing = random() % 2 == 0};
    const LayerTensors tensors = make_random_layer(*GetParam(), "l", options, random);
    LayerFile file = file_of(tensors);
    if (options.smoothing) file.prefix = "l.linear";
    const LinearParams params = read_layer_params(*GetParam(), file);
    EXPECT_EQ(params.plan.n, dims.n);
    EXPECT_EQ(params.plan.k, dims.k);
    EXPECT_EQ(params.plan.has_bias, options.bias);
    EXPECT_EQ(params.plan.prologue, options.smoothing ? Prologue::kSmooth : Prologue::kNone);
    ++cases;
  }
  EXPECT_EQ(cases, 100);
}

TEST_P(Contracts, AWeightWithInfOrNanIsRefused) {
  std::vector<float> values(3 * 32, 1.0f);
  values[70] = std::numeric_limits<float>::infinity();
  const FloatLayer layer = {
      .name = "blocks.1.x", .weight = float_tensor(DType::kF32, {3, 32}, values), .bias = {}};
  const Error error = error_of([&] { write_layer_params(*GetParam(), layer, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_NE(std::string(error.what())
                .find("expected finite values, got inf or nan in row 2 "
                      "(layer blocks.1.x, tensor blocks.1.x.weight)"),
            std::string::npos)
      << error.what();
}

INSTANTIATE_TEST_SUITE_P(Served, Contracts, testing::ValuesIn(served_rows()),
                         [](const auto& info) { return std::string(info.param->name); });

// --- docs
// -----------------------------------------------------------------------------------------

TEST(Algorithms, TheTablesOfTheDocsAreTheRows) {
  const std::string docs = file_text(std::string(MZ_SOURCE_DIR) + "/docs/algorithms.md");
  EXPECT_NE(docs.find(algorithms_markdown()), std::string::npos)
      << "paste this into docs/algorithms.md:\n"
      << algorithms_markdown();
}

}  // namespace
}  // namespace mezzotint
