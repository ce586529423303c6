#include "quant/algorithm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>

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
    const bool has_contract = row.contract != nullptr || row.attention != nullptr;
    EXPECT_EQ(has_contract, row.status == AlgorithmStatus::kServed) << row.name;
    EXPECT_EQ(has_contract, !contract_name(row).empty()) << row.name;
    EXPECT_EQ(has_contract, !contract_tensors(row).empty()) << row.name;
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
  const Error planned = error_of([] { served_algorithm("mxfp8_dynamic"); });
  EXPECT_EQ(planned.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(planned.what()).find("algorithm MXFP8_DYNAMIC is not served"),
            std::string::npos);
}

// --- contracts
// ------------------------------------------------------------------------------------

class Contracts : public testing::TestWithParam<const AlgorithmRow*> {};

std::vector<const AlgorithmRow*> served_rows() {
  std::vector<const AlgorithmRow*> rows;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract != nullptr) rows.push_back(&row);
  }
  return rows;
}

LayerFile file_of(const LayerTensors& tensors, const std::string& prefix, const LayerDims& dims) {
  LayerFile file = file_of(tensors);
  file.prefix = prefix;
  file.dims = {.n = dims.n, .k = dims.k};
  return file;
}

bool is_writable(const AlgorithmRow& row) { return !row.parameters.needs_statistics; }

const NamedTensor& tensor_of(const LayerTensors& tensors, const std::string& name) {
  const auto it =
      std::ranges::find_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
  if (it == tensors.end()) throw std::logic_error(name);
  return *it;
}

TEST_P(Contracts, WhatIsWrittenIsWhatWasPlanned) {
  if (!is_writable(*GetParam())) return;
  std::mt19937_64 random(1);
  for (const bool bias : {false, true}) {
    for (const int64_t k : {33, 40, 128}) {
      FloatLayer layer = {
          .name = "a.b", .weight = normal_tensor(DType::kBF16, {7, k}, random), .bias = {}};
      if (bias) layer.bias = normal_tensor(DType::kF16, {7}, random);
      const LayerTensors written = write_layer_params(*GetParam(), layer, {}, context());
      const std::vector<PlannedTensor> planned =
          plan_layer_tensors(*GetParam(), "a.b", written_dims(*GetParam(), 7, k, {}),
                             bias ? HasBias::kYes : HasBias::kNo);
      ASSERT_EQ(written.size(), planned.size());
      for (size_t i = 0; i < written.size(); ++i) {
        EXPECT_EQ(written[i].name, planned[i].tensor.name);
        EXPECT_EQ(written[i].label, planned[i].label);
        EXPECT_EQ(written[i].tensor.dtype(), planned[i].tensor.dtype);
        EXPECT_EQ(written[i].tensor.shape(), planned[i].tensor.shape);
      }
    }
  }
}

TEST_P(Contracts, WhatNeedsStatisticsIsNotWrittenUnderItsName) {
  if (is_writable(*GetParam())) return;
  std::mt19937_64 random(1);
  const FloatLayer layer = {
      .name = "a.b", .weight = normal_tensor(DType::kBF16, {7, 64}, random), .bias = {}};
  const Error error = error_of([&] { write_layer_params(*GetParam(), layer, {}, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("needs statistics: mezzotint collect"),
            std::string::npos);
}

TEST_P(Contracts, ReadingGivesBackWhatWasWritten) {
  if (!is_writable(*GetParam())) return;
  std::mt19937_64 random(3);
  for (const int64_t k : {70, 71, 192}) {
    const FloatLayer layer = {.name = "l",
                              .weight = normal_tensor(DType::kF32, {9, k}, random),
                              .bias = normal_tensor(DType::kF32, {9}, random)};
    const LayerTensors t = write_layer_params(*GetParam(), layer, {}, context());
    const LayerFile file = file_of(t, "l", {.n = 9, .k = k});
    const LinearParams params = read_layer_params(*GetParam(), file);
    EXPECT_EQ(params.algorithm, GetParam()->canonical);
    EXPECT_EQ(params.plan.n, 9);
    EXPECT_EQ(params.plan.k, k);
    EXPECT_TRUE(params.plan.has_bias);
    EXPECT_FALSE(params.plan.weight.asymmetric);
    EXPECT_EQ(params.plan.prologue, Prologue::kNone);
    EXPECT_TRUE(same_bytes(params.bias, *layer.bias));
    const LayerTensors again = rewrite_layer_params(*GetParam(), params, file);
    ASSERT_EQ(again.size(), t.size());
    for (size_t i = 0; i < t.size(); ++i) {
      EXPECT_EQ(again[i].name, t[i].name);
      EXPECT_EQ(again[i].label, t[i].label);
      EXPECT_TRUE(same_bytes(again[i].tensor, t[i].tensor)) << t[i].name;
    }
    // What no model says is found in the file; of an odd k too, which is not packed.
    EXPECT_EQ(read_layer_params(*GetParam(), file_of(t)).plan, params.plan);
  }
}

// Every freedom of the contract: any dtype, any shape form, groups, steps, low-rank factors.
TEST_P(Contracts, ReadEveryRandomValidFileAndGiveItsBytesBack) {
  std::mt19937_64 random(4);
  int cases = 0;
  for (int i = 0; i < 200; ++i) {
    LayerDims dims = {.n = 1 + static_cast<int64_t>(random() % 40),
                      .k = 2 + static_cast<int64_t>(random() % 90)};
    if (dims.k % 3 == 0 && dims.k > 3 && has_groups(*GetParam())) dims.groups = 3;
    dims.steps = 1 + static_cast<int64_t>(random() % 5);
    if (GetParam()->parameters.low_rank || random() % 3 == 0) dims.rank = 2;
    const RandomLayerOptions options = {
        .dims = dims, .bias = random() % 2 == 0, .smoothing = random() % 2 == 0};
    const LayerTensors tensors = make_random_layer(*GetParam(), "l", options, random);
    const LayerFile file = file_of(tensors, options.smoothing ? "l.linear" : "l", dims);
    const LinearParams params = read_layer_params(*GetParam(), file);
    EXPECT_EQ(params.plan.n, dims.n);
    EXPECT_EQ(params.plan.k, dims.k);
    EXPECT_EQ(params.plan.rank, dims.rank);
    EXPECT_EQ(params.plan.has_bias, options.bias);
    EXPECT_EQ(params.plan.prologue, options.smoothing ? Prologue::kSmooth : Prologue::kNone);
    EXPECT_EQ(params.plan.weight.group, dims.groups == 0 ? 0 : dims.k / dims.groups);
    for (const NamedTensor& again : rewrite_layer_params(*GetParam(), params, file)) {
      EXPECT_TRUE(same_bytes(again.tensor, tensor_of(tensors, again.name).tensor))
          << again.name << " " << dtype_name(again.tensor.dtype())
          << to_string(again.tensor.shape());
    }
    ++cases;
  }
  EXPECT_EQ(cases, 200);
}

TEST_P(Contracts, AWeightWithInfOrNanIsRefused) {
  if (!is_writable(*GetParam())) return;
  constexpr int64_t kColumns = 608;  // whole blocks, and of 512 a part
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (const int64_t column : {0, 6, 511, 607}) {
      std::vector<float> values(3 * kColumns, 1.0f);
      values[static_cast<size_t>(2 * kColumns + column)] = bad;
      const FloatLayer layer = {.name = "blocks.1.x",
                                .weight = float_tensor(DType::kBF16, {3, kColumns}, values),
                                .bias = {}};
      const Error error = error_of([&] { write_layer_params(*GetParam(), layer, {}, context()); });
      EXPECT_EQ(error.code(), ErrorCode::kInput);
      EXPECT_NE(std::string(error.what())
                    .find("expected finite values, got inf or nan in row 2 "
                          "(layer blocks.1.x, tensor blocks.1.x.weight)"),
                std::string::npos)
          << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Served, Contracts, testing::ValuesIn(served_rows()),
                         [](const auto& info) { return std::string(info.param->name); });

// --- what is written ----------------------------------------------------------------------------

void expect_tensor(const LayerTensors& tensors, const std::string& name, const std::string& label,
                   DType dtype, const Shape& shape) {
  const NamedTensor& t = tensor_of(tensors, name);
  EXPECT_EQ(t.label, label) << name;
  EXPECT_EQ(t.tensor.dtype(), dtype) << name;
  EXPECT_EQ(t.tensor.shape(), shape) << name;
}

LayerTensors write(const char* algorithm, int64_t n, int64_t k, const WriteOptions& options = {}) {
  std::mt19937_64 random(2);
  return write_layer_params(*find_algorithm(algorithm),
                            {.name = "l",
                             .weight = normal_tensor(DType::kF32, {n, k}, random),
                             .bias = normal_tensor(DType::kBF16, {n}, random)},
                            options, context());
}

TEST(WrittenTensors, AreThoseOfTheFormat) {
  for (const char* label : {"W8A16", "W8A8_DYNAMIC", "W8A8_PER_CHANNEL_PER_TOKEN"}) {
    const LayerTensors t = write(label, 5, 40);
    EXPECT_EQ(t.size(), 4u);
    expect_tensor(t, "l.weight", label, DType::kI8, {5, 40});
    expect_tensor(t, "l.weight_scale", label, DType::kF32, {5, 1});
    expect_tensor(t, "l.weight_offset", label, DType::kF32, {5, 1});
    expect_tensor(t, "l.bias", "FLOAT", DType::kF32, {5});
    for (int64_t i = 0; i < 5; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, tensor_of(t, "l.weight_scale").tensor.raw() + 4 * i, 4);
      EXPECT_EQ(bits & 0xffff, 0u);  // representable in bf16
      EXPECT_EQ(tensor_of(t, "l.weight_offset").tensor.data<float>()[i], 0.0f);
    }
  }
  expect_tensor(write("W4A16", 5, 128), "l.weight", "W4A16", DType::kU8, {5, 64});
  expect_tensor(write("W4A16", 5, 128), "l.weight_scale", "W4A16", DType::kF32, {5, 2});
  expect_tensor(write("W4A16", 5, 128, {.group_size = 32}), "l.weight_scale", "W4A16", DType::kF32,
                {5, 4});
  expect_tensor(write("W4A16", 5, 41), "l.weight", "W4A16", DType::kI8, {5, 41});
  expect_tensor(write("W4A16", 5, 100), "l.weight_scale", "W4A16", DType::kF32, {5, 1});
  expect_tensor(write("W4A4_DYNAMIC", 5, 128), "l.weight_scale", "W4A4_DYNAMIC", DType::kF32,
                {5, 1});
  const LayerTensors fp8 = write("W8A8_MXFP8", 5, 40);
  EXPECT_EQ(fp8.size(), 3u);
  expect_tensor(fp8, "l.weight", "W8A8_MXFP8", DType::kF8E4M3, {5, 40});
  expect_tensor(fp8, "l.weight_scale", "W8A8_MXFP8", DType::kU8, {5, 2});
  for (const char* name : {"W4A4_MXFP4", "W4A4_MXFP4_DYNAMIC"}) {
    expect_tensor(write(name, 5, 96), "l.weight", "W4A4_MXFP4", DType::kU8, {5, 48});
    expect_tensor(write(name, 5, 96), "l.weight_scale", "W4A4_MXFP4", DType::kU8, {5, 3});
  }
  expect_tensor(write("W4A4_MXFP4", 5, 33), "l.weight", "W4A4_MXFP4", DType::kF8E4M3, {5, 33});
  const LayerTensors svd = write("W4A4_MXFP4_SVD", 50, 96);
  expect_tensor(svd, "l.weight", "W4A4_MXFP4_SVD", DType::kU8, {50, 48});
  expect_tensor(svd, "l.svd_lowrank_l1", "FLOAT", DType::kBF16, {32, 96});
  expect_tensor(svd, "l.svd_lowrank_l2", "FLOAT", DType::kBF16, {50, 32});
}

TEST(WrittenTensors, OneScalePerTensorIsTheSameInEveryRow) {
  const LayerTensors t = write("W8A8_PER_TENSOR_PER_TOKEN", 4, 64);
  const LayerTensors rows = write("W8A8_PER_CHANNEL_PER_TOKEN", 4, 64);
  const float* scale = tensor_of(t, "l.weight_scale").tensor.data<float>();
  EXPECT_EQ(std::set<float>(scale, scale + 4).size(), 1u);
  const float* each = tensor_of(rows, "l.weight_scale").tensor.data<float>();
  EXPECT_GT(std::set<float>(each, each + 4).size(), 1u);
  EXPECT_EQ(*std::max_element(each, each + 4), scale[0]);
}

TEST(LowRankLabels, AreEveryLinearAlgorithmWithFactors) {
  const AlgorithmRow* row = find_algorithm("w8a8_svd_dynamic");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->canonical, "W8A8_SVD_DYNAMIC");
  EXPECT_TRUE(row->parameters.low_rank);
  EXPECT_EQ(row->contract, find_algorithm("W8A8_DYNAMIC")->contract);
  EXPECT_NE(find_algorithm("W8A8_MXFP8_SVD"), nullptr);
  EXPECT_EQ(find_algorithm("W8A8_MXFP8_SVD_SVD"), nullptr);
  for (const char* name : {"W8A8_DYNAMIC_SVD", "w8a8_svd_dynamic"}) {
    EXPECT_EQ(find_algorithm(name)->canonical, "W8A8_SVD_DYNAMIC") << name;
  }
  for (const char* alias : {"W4A4_MXFP4_SVD_DYNAMIC", "W4A4_MXFP4_DYNAMIC_SVD"}) {
    ASSERT_NE(find_algorithm(alias), nullptr) << alias;
    EXPECT_EQ(find_algorithm(alias)->canonical, "W4A4_MXFP4_SVD");
  }
  EXPECT_EQ(find_algorithm("FP8_SVD_DYNAMIC"), nullptr);  // attention has no weight
  std::mt19937_64 random(5);
  LayerTensors plain =
      make_random_layer(*find_algorithm("W8A8_DYNAMIC"), "l", {.dims = {.n = 4, .k = 32}}, random);
  const Error error = error_of([&] { read_layer_params(*row, file_of(plain)); });
  EXPECT_NE(std::string(error.what()).find("svd_lowrank_l1 is missing"), std::string::npos);
}

// --- one name, two kinds of files ---------------------------------------------------------------

TEST(PerNames, FollowTheTensorsOfTheFile) {
  std::mt19937_64 random(6);
  for (const char* name : {"W8A8_PER_CHANNEL", "W8A8_PER_TENSOR", "W8A8_PER_CHANNEL_PER_TOKEN",
                           "W8A8_PER_CHANNEL_PER_TENSOR", "W8A8_PER_TENSOR_PER_TOKEN"}) {
    const AlgorithmRow& row = *find_algorithm(name);
    AlgorithmRow other = row;
    std::swap(other.contract, other.alternative);
    const RandomLayerOptions options = {.dims = {.n = 6, .k = 40}};
    for (const AlgorithmRow& written : {row, other}) {
      const LayerTensors tensors = make_random_layer(written, "l", options, random);
      const LinearPlan plan = read_layer_params(row, file_of(tensors)).plan;
      EXPECT_EQ(plan.activation_mode, written.contract->mode) << name;
    }
  }
}

// --- damage -------------------------------------------------------------------------------------

// Changes one byte of one tensor of a random layer and reads it.
Error read_with(const char* algorithm, const std::string& suffix, DType dtype, size_t at,
                uint8_t byte) {
  std::mt19937_64 random(7);
  const AlgorithmRow& row = *find_algorithm(algorithm);
  for (int tries = 0; tries < 100; ++tries) {
    LayerTensors tensors = make_random_layer(row, "l", {.dims = {.n = 4, .k = 64}}, random);
    NamedTensor& t = const_cast<NamedTensor&>(tensor_of(tensors, "l." + suffix));
    if (t.tensor.dtype() != dtype) continue;
    t.tensor.buffer().mutable_data()[at] = static_cast<std::byte>(byte);
    return error_of([&] { read_layer_params(row, file_of(tensors, "l", {.n = 4, .k = 64})); });
  }
  throw std::logic_error("no such dtype");
}

TEST(DamagedCodes, AreNamed) {
  const auto expect = [](const Error& error, const std::string& text) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  };
  expect(read_with("W8A8_MXFP8", "weight", DType::kF8E4M3, 5, 0x7f), "byte 127 at 5");
  expect(read_with("W8A8_MXFP8", "weight_scale", DType::kU8, 3, 0xff), "byte 255 at 3");
  expect(read_with("W4A4_MXFP4", "weight", DType::kF8E4M3, 70, 0x39), "the byte 57 at [1,6]");
  EXPECT_EQ(std::string(read_with("W4A4_MXFP4", "weight", DType::kU8, 9, 0xff).what()),
            "nothing was thrown");  // two good codes
}

// Without one per byte, codes above 7 say that two are packed: the shape decides.
TEST(DamagedCodes, AnInt4CodeOutOfRangeIsNamed) {
  LayerTensors tensors = {
      {"l.weight", "W4A16", Tensor::copy_of<int8_t>(std::vector<int8_t>(64, 3), {2, 32})},
      {"l.weight_scale", "W4A16", float_tensor(DType::kF32, {2, 1}, {1, 1})}};
  const LayerFile file = file_of(tensors, "l", {.n = 2, .k = 32});
  EXPECT_EQ(read_layer_params(*find_algorithm("W4A16"), file).plan.k, 32);
  tensors[0].tensor.mutable_data<int8_t>()[40] = 8;
  const Error error = error_of([&] {
    read_layer_params(*find_algorithm("W4A16"), file_of(tensors, "l", {.n = 2, .k = 32}));
  });
  EXPECT_NE(
      std::string(error.what()).find("expected int4 codes of [-8, 7], got the byte 8 at [1,8]"),
      std::string::npos)
      << error.what();
}

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
