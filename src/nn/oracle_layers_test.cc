// Every file of testdata/oracle/layers: what tools/oracle, which shares no code with the library,
// says of codes, scales and outputs. docs: testdata/oracle/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/error.h"
#include "nn/linear_input.h"
#include "nn/linear_oracle.h"
#include "nn/linear_state.h"
#include "numerics/mx.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// One file: a layer `l`, inputs and what they give.
struct Golden {
  explicit Golden(const fs::path& file) : store(WeightStore::open_file(file)) {
    const auto& facts = store.metadata();
    algorithm = facts.at("algorithm");
    activation = facts.at("activation");
    step = facts.at("step").empty() ? -1 : std::stoi(facts.at("step"));
  }

  bool has(const std::string& name) const { return store.find(name) != nullptr; }
  std::vector<double> doubles(const std::string& name) const {
    const Tensor t = store.read(name);
    return {t.data<double>(), t.data<double>() + t.size()};
  }
  LayerFile layer() const {
    return {.layer = "l",
            .prefix = has("l.div.mul_scale") ? "l.linear" : "l",
            .file = store.files()[0].filename().string(),
            .tensor = [this](const std::string& name) -> std::optional<Tensor> {
              if (!has(name)) return std::nullopt;
              return store.read(name);
            }};
  }
  LinearParams params() const { return read_layer_params(*find_algorithm(algorithm), layer()); }
  Linear linear(const LinearParams& params, Isa isa) const {
    const TimestepPolicy policy(activation == "static" ? StepMode::kStatic : StepMode::kDynamic);
    return Linear("l", params.plan.n, params.plan.k, make_linear_state(params, isa, policy));
  }

  WeightStore store;
  std::string algorithm;
  std::string activation;  // float, dynamic or static
  int step = -1;
};

std::vector<fs::path> golden_files() {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MZ_SOURCE_DIR) / "testdata/oracle/layers")) {
    files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_into(t, values);
  return values;
}

// Codes times codes with one scale per row are exact in integers: a conversion, the two scales and
// the bias round. Everything else is a chain of k sums in float, over operands rounded twice; rows
// on panels of MXFP4 sum a block of 32 in integers. The low-rank branch is two more chains.
double roundings(const Golden& golden, const LinearPlan& plan, std::string_view kernel) {
  if (kernel.starts_with("mxfp4_panels")) return static_cast<double>(mx_blocks(plan.k)) + 6.0;
  const bool integer = golden.activation != "float" && plan.activation.element != Element::kE4M3 &&
                       plan.activation.element != Element::kE2M1;
  const bool exact = integer && plan.weight.group == 0 && !golden.has("l.weight_offset") &&
                     !golden.has("l.linear.weight_offset");
  return exact ? 4.0 : static_cast<double>(plan.k) + 6.0;
}

OracleResult expected_of(const Golden& golden, const LinearParams& params,
                         const std::string& ending, DType dtype, std::string_view kernel) {
  OracleResult result;
  result.y = golden.doubles("y" + ending);
  result.bound = golden.doubles("bound" + ending);
  std::vector<double> low_rank(result.y.size(), 0.0);
  if (golden.has("bound_lowrank" + ending)) low_rank = golden.doubles("bound_lowrank" + ending);
  const double main_chain = roundings(golden, params.plan, kernel);
  const auto branch_chains = static_cast<double>(params.plan.k + params.plan.rank + 2);
  std::vector<float> bias(static_cast<size_t>(params.plan.n), 0.0f);
  if (params.plan.has_bias) bias = floats(params.bias);
  for (size_t i = 0; i < result.y.size(); ++i) {
    const double y = std::abs(result.y[i]) + std::abs(bias[i % bias.size()]);
    result.bound[i] = linear_oracle::kUnit *
                          (main_chain * result.bound[i] + branch_chains * low_rank[i] + 2 * y) +
                      linear_oracle::output_rounding(dtype, result.y[i]) + 0x1p-126;
  }
  return result;
}

Tensor run(const Linear& linear, const Tensor& x, int step) {
  Tensor y = Tensor::allocate(x.dtype(), {x.dim(0), linear.out_features()});
  linear.run({x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)},
             {y.buffer().mutable_data(), y.dtype(), y.dim(0), y.dim(1), y.dim(1)},
             context().at_step(step));
  return y;
}

struct Input {
  const char* ending;  // of the names
  DType dtype;
};
constexpr std::array kInputs = {Input{"", DType::kF32}, Input{"_bf16", DType::kBF16}};

class OracleLayers : public testing::TestWithParam<fs::path> {};

TEST_P(OracleLayers, RunGivesTheOraclesOutputsOnEveryIsa) {
  const Golden golden(GetParam());
  const LinearParams params = golden.params();
  for (const Input& input : kInputs) {
    const Tensor x = golden.store.read("x" + std::string(input.ending));
    ASSERT_EQ(x.dtype(), input.dtype);
    for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
      const Linear linear = golden.linear(params, static_cast<Isa>(isa));
      const std::string_view kernel = linear.kernel(x.dim(0));
      const OracleResult expected = expected_of(golden, params, input.ending, input.dtype, kernel);
      EXPECT_EQ(misses(expected, run(linear, x, golden.step)), 0)
          << dtype_name(input.dtype) << " " << kernel;
    }
  }
}

// One output off by twice its bound is seen, in every file.
TEST_P(OracleLayers, TheBoundHasTeeth) {
  const Golden golden(GetParam());
  const LinearParams params = golden.params();
  const Linear linear = golden.linear(params, active_isa());
  const Tensor x = golden.store.read("x");
  OracleResult expected = expected_of(golden, params, "", DType::kF32, linear.kernel(x.dim(0)));
  const Tensor y = run(linear, x, golden.step);
  double largest = 0;
  for (const double value : expected.y) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < expected.y.size(); ++i) {
    EXPECT_LT(expected.bound[i], 1e-3 * largest);
    expected.y[i] += 2.5 * expected.bound[i];
  }
  EXPECT_EQ(misses(expected, y), y.size());
}

// How the plan reads x, without smoothing: that is done by the caller's form.
InputForm form_of(const Golden& golden, const LinearParams& params) {
  InputForm form = {.kind = activation_form(params.plan), .scheme = params.plan.activation};
  if (golden.activation == "static") {
    const auto row = static_cast<size_t>(std::max(golden.step, 0));
    form.fixed = StaticScale{floats(params.input_scale)[row], floats(params.input_offset)[row]};
  }
  return form;
}

// Codes and scales of x, in the dtypes of the golden.
void expect_codes(const Golden& golden, const LinearTile& tile, const std::string& ending) {
  const Tensor codes = golden.store.read("x_codes" + ending);
  const int64_t k = codes.dim(1);
  for (int64_t m = 0; m < codes.dim(0); ++m) {
    EXPECT_EQ(
        std::memcmp(tile.xq + m * tile.xq_stride, codes.raw() + m * k, static_cast<size_t>(k)), 0)
        << "row " << m;
  }
  if (!golden.has("x_scale" + ending)) return;  // static
  const Tensor scale = golden.store.read("x_scale" + ending);
  const void* got = scale.dtype() == DType::kU8 ? static_cast<const void*>(tile.x_block_scale)
                                                : static_cast<const void*>(tile.x_scale);
  EXPECT_EQ(std::memcmp(got, scale.raw(), static_cast<size_t>(scale.byte_size())), 0);
  if (!golden.has("x_dual" + ending)) return;
  const Tensor dual = golden.store.read("x_dual" + ending);
  EXPECT_EQ(std::memcmp(tile.x_dual_scale, dual.raw(), static_cast<size_t>(dual.byte_size())), 0);
}

TEST_P(OracleLayers, InputsGetTheOraclesCodesAndScalesOnEveryIsa) {
  const Golden golden(GetParam());
  if (golden.activation == "float") return;
  const LinearParams params = golden.params();
  const std::vector<float> mul =
      params.mul_scale.empty() ? std::vector<float>() : floats(params.mul_scale);
  for (const Input& input : kInputs) {
    const Tensor x = golden.store.read("x" + std::string(input.ending));
    for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
      SCOPED_TRACE(testing::Message() << dtype_name(input.dtype) << " isa " << isa);
      InputForm form = form_of(golden, params);
      form.mul_scale = mul;
      LinearInput prepared({x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)}, context());
      LinearTile tile = {};
      prepared.fill(form, static_cast<Isa>(isa), tile);
      expect_codes(golden, tile, input.ending);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, OracleLayers, testing::ValuesIn(golden_files()),
                         [](const auto& info) { return info.param.stem().string(); });

TEST(OracleLayerFiles, CoverEveryServedLinearAlgorithm) {
  std::vector<std::string> labels;
  for (const fs::path& file : golden_files()) labels.push_back(Golden(file).algorithm);
  for (const AlgorithmRow& row : algorithm_rows()) {
    const bool twin = row.parameters.low_rank && row.name != "W4A4_MXFP4_SVD";
    if (row.contract == nullptr || row.name != row.canonical || twin) continue;
    EXPECT_TRUE(std::ranges::find(labels, row.name) != labels.end()) << row.name;
  }
  EXPECT_EQ(labels.size(), 62u);
}

}  // namespace
}  // namespace mezzotint
