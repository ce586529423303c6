// Every folder of testdata/upstream, made by upstream's exporter, through quantize(): its layers
// are near the float ones they were made from, and give what the exporter's simulation gives where
// that computes what the files say (tools/upstream_files/README.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/algorithm.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kUpstream = fs::path(MZ_SOURCE_DIR) / "testdata/upstream";

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2, .log = {.sink = [](LogLevel, std::string_view) {}}});
  return ctx;
}

// The linears of one source file, and the attention slot of the model that has one.
struct SourceModel {
  explicit SourceModel(const std::string& kind)
      : store(WeightStore::open_file(kUpstream / (kind + ".safetensors"))) {
    for (const TensorInfo& t : store.tensors()) {
      if (!t.name.ends_with(".weight") || t.shape.size() != 2) continue;
      const std::string layer = t.name.substr(0, t.name.size() - 7);
      std::optional<Tensor> bias;
      if (store.find(layer + ".bias") != nullptr) bias = store.read(layer + ".bias");
      linears.push_back(Linear::from_float(layer, store.read(t.name), bias));
      map.linears.push_back(&linears.back());
    }
    if (kind != "attention") return;
    attention = Attention("blocks.0.attn", {.heads = 1, .head_dim = 64});
    map.attentions.push_back(&attention);
  }
  SourceModel(const SourceModel&) = delete;
  SourceModel& operator=(const SourceModel&) = delete;

  WeightStore store;
  std::deque<Linear> linears;
  Attention attention;
  ModuleMap map;
};

std::string model_of(const std::string& folder) {
  if (folder == "fp8_attention") return "attention";
  return folder.ends_with("dualscale") ? "wide" : "tiny";
}

std::vector<float> output(const Linear& linear, int step) {
  static const WeightStore inputs = WeightStore::open_file(kUpstream / "inputs.safetensors");
  const Tensor stored = inputs.read("x." + std::to_string(linear.in_features()));
  std::vector<float> x(static_cast<size_t>(stored.size()));
  widen_into(stored, x);
  const int64_t m = stored.dim(0);
  std::vector<float> y(static_cast<size_t>(m * linear.out_features()));
  linear.run({x.data(), DType::kF32, m, linear.in_features(), linear.in_features()},
             {y.data(), DType::kF32, m, linear.out_features(), linear.out_features()},
             context().at_step(step));
  return y;
}

// norm of a - b over norm of b
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(error / norm);
}

// What a folder must give. Measured by tools/oracle/test_upstream_files.py on the same inputs, with
// room for another rounding of single codes.
struct Expectation {
  double at_least;    // relative error against the float layer: less would not be quantized
  double at_most;     // of layers whose calibrated range holds the input
  double simulation;  // against outputs.safetensors; 0: there is none
};

const std::map<std::string, Expectation>& expectations() {
  // The exporter quantizes MX inputs by its rule for weights, and rounds bf16 models at every step.
  static const std::map<std::string, Expectation> table = {
      {"fp8_attention", {0.01, 0.06, 0.03}},
      {"mixed_shards", {0.003, 0.07, 0}},
      {"old_w4a16_ascend_packed_k", {0.03, 0.2, 1e-6}},
      {"old_w4a16_ascend_packed_n", {0.03, 0.2, 0.002}},
      {"old_w4a16_gptq", {0.05, 0.5, 1e-6}},
      {"old_w4a16_group32", {0.05, 0.3, 0.002}},
      {"old_w8a16_asymmetric", {0.002, 0.02, 1e-6}},
      {"old_w8a16_one_scale", {0.005, 0.05, 1e-6}},
      {"old_w8a8_bf16", {0.005, 0.03, 0.03}},
      {"old_w8a8_timestep", {0.002, 0.03, 0}},
      {"w4a4_dynamic_ascend", {0.04, 0.3, 0.005}},
      {"w4a4_mxfp4", {0.05, 0.25, 0.15}},
      {"w4a4_mxfp4_dualscale", {0.05, 0.25, 0.2}},
      {"w4a4_mxfp4_svd", {0.01, 0.2, 0.1}},
      {"w4a4_mxfp4_svd_smooth", {0.01, 0.2, 0}},
      {"w4a4_mxfp4_svd_then_smooth", {0.005, 0.2, 0}},
      {"w8a16_ascend", {0.001, 0.02, 1e-6}},
      {"w8a16_group32_gptq_ascend", {0.002, 0.02, 1e-6}},
      {"w8a16_smooth_ascend", {0.002, 0.02, 1e-6}},
      {"w8a8", {0.003, 0.03, 1e-4}},
      {"w8a8_ascend_i64", {0.003, 0.03, 1e-4}},
      {"w8a8_dynamic", {0.001, 0.03, 0}},
      {"w8a8_dynamic_group32_ascend", {0.003, 0.03, 0}},
      {"w8a8_dynamic_smooth", {0.003, 0.03, 0}},
      {"w8a8_mxfp8", {0.01, 0.07, 0.03}},
      {"w8a8_smooth_bf16", {0.003, 0.03, 0.03}},
      {"w8a8_svd_dynamic", {0.001, 0.02, 0}},
  };
  return table;
}

// ff_out reads inputs outside the range that its static scales were calibrated for.
bool saturates(const Linear& linear) {
  return linear.name().ends_with("ff_out") && linear.algorithm() == "W8A8";
}

class UpstreamFiles : public testing::TestWithParam<std::string> {};

TEST_P(UpstreamFiles, QuantizeGivesLayersNearTheFloatOnes) {
  const fs::path folder = kUpstream / GetParam();
  const Expectation& expected = expectations().at(GetParam());
  SourceModel model(model_of(GetParam()));
  const SourceModel source(model_of(GetParam()));
  quantize(model.map, folder, {}, context());
  const bool attention = GetParam() == "fp8_attention";
  EXPECT_EQ(model.attention.algorithm() == "FP8_DYNAMIC", attention);
  int quantized = 0;
  for (size_t i = 0; i < model.linears.size(); ++i) {
    const Linear& linear = model.linears[i];
    const double error = relative_error(output(linear, -1), output(source.linears[i], -1));
    if (linear.algorithm() == "FLOAT") {
      EXPECT_EQ(error, 0) << linear.name();
      continue;
    }
    ++quantized;
    EXPECT_GT(error, expected.at_least) << linear.name();
    EXPECT_TRUE(error < expected.at_most || saturates(linear)) << linear.name() << " " << error;
  }
  EXPECT_GT(quantized, 0);
}

TEST_P(UpstreamFiles, GivesWhatTheExportersSimulationGives) {
  const fs::path file = kUpstream / GetParam() / "outputs.safetensors";
  const Expectation& expected = expectations().at(GetParam());
  ASSERT_EQ(fs::exists(file), expected.simulation > 0);
  if (!fs::exists(file)) return;
  const WeightStore outputs = WeightStore::open_file(file);
  SourceModel model(model_of(GetParam()));
  quantize(model.map, kUpstream / GetParam(), {}, context());
  size_t compared = 0;
  for (const Linear& linear : model.linears) {
    if (outputs.find(linear.name()) == nullptr) continue;
    const Tensor stored = outputs.read(linear.name());
    const std::vector<float> simulated(stored.data<float>(), stored.data<float>() + stored.size());
    std::vector<float> y = output(linear, -1);
    EXPECT_LT(relative_error(y, simulated), expected.simulation) << linear.name();
    for (float& value : y) value *= 1.5f;  // as of a wrong scale
    EXPECT_GT(relative_error(y, simulated), expected.simulation) << linear.name();
    ++compared;
  }
  EXPECT_EQ(compared, outputs.tensors().size());
}

std::vector<std::string> folders() {
  std::vector<std::string> names;
  for (const auto& [name, expectation] : expectations()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Folders, UpstreamFiles, testing::ValuesIn(folders()),
                         [](const auto& info) { return info.param; });

// [1,3,1,64], of noise.
std::vector<float> attended(const Attention& attention) {
  constexpr int64_t kRows = 3;
  constexpr int64_t kDim = 64;
  std::mt19937_64 random(5);
  std::vector<Tensor> qkv;
  for (int i = 0; i < 3; ++i) qkv.push_back(normal_tensor(DType::kF32, {kRows, kDim}, random));
  std::vector<float> out(static_cast<size_t>(kRows * kDim));
  const auto view = [&](void* data) {
    return HeadsView{.data = data,
                     .batch = 1,
                     .seq = kRows,
                     .heads = 1,
                     .dim = kDim,
                     .batch_stride = kRows * kDim,
                     .seq_stride = kDim,
                     .head_stride = kDim};
  };
  attention.run(view(qkv[0].buffer().mutable_data()), view(qkv[1].buffer().mutable_data()),
                view(qkv[2].buffer().mutable_data()), view(out.data()), {.scale = 0.125f},
                context());
  return out;
}

TEST(UpstreamFolders, AttentionIsNearTheFloatOne) {
  SourceModel model("attention");
  const std::vector<float> exact = attended(model.attention);
  const Report report = quantize(model.map, kUpstream / "fp8_attention", {}, context());
  EXPECT_EQ(model.attention.algorithm(), "FP8_DYNAMIC");
  EXPECT_EQ(report.quantized(), 2);
  const double error = relative_error(attended(model.attention), exact);
  EXPECT_LT(error, 0.06);
  EXPECT_GT(error, 0.005) << "not quantized";
}

TEST(UpstreamFolders, AreAllTested) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(kUpstream)) count += entry.is_directory() ? 1 : 0;
  EXPECT_EQ(count, expectations().size() + 1);  // and the foreign one
}

TEST(UpstreamFolders, ALabelThatIsNoAlgorithmIsRefused) {
  SourceModel model("tiny");
  try {
    quantize(model.map, kUpstream / "foreign_w4a8_mxfp_ascend", {}, context());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("W4A8_MXFP"), std::string::npos) << error.what();
  }
  for (const Linear& linear : model.linears) EXPECT_EQ(linear.algorithm(), "FLOAT");
}

TEST(UpstreamFolders, StaticStepsOfATimestepFileAreNearTheFloatLayerAndDifferFromEachOther) {
  SourceModel model("tiny");
  const SourceModel source("tiny");
  quantize(model.map, kUpstream / "old_w8a8_timestep",
           {.timestep_policy = TimestepPolicy(StepMode::kStatic)}, context());
  for (size_t i = 0; i < model.linears.size(); ++i) {
    const Linear& linear = model.linears[i];
    if (linear.algorithm() == "FLOAT" || linear.name().ends_with("ff_out")) continue;
    const std::vector<float> exact = output(source.linears[i], -1);
    std::vector<double> errors;
    for (int step = 0; step < 4; ++step) {
      errors.push_back(relative_error(output(linear, step), exact));
      EXPECT_LT(errors.back(), 0.1) << linear.name() << " step " << step;
    }
    std::ranges::sort(errors);
    EXPECT_LT(errors.front(), errors.back()) << linear.name();
  }
}

}  // namespace
}  // namespace mezzotint
