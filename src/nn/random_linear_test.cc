#include "nn/random_linear.h"

#include <gtest/gtest.h>

#include "mezzotint/error.h"
#include "nn/linear_state.h"

namespace mezzotint {
namespace {

TEST(RandomLinear, HasThePlanAndBytesThatQuantizeWrites) {
  const ExecContext ctx({.threads = 1});
  constexpr int64_t kN = 64, kK = 512;
  const Tensor weight = Tensor::copy_of<float>(std::vector<float>(kN * kK, 0.5f), {kN, kK});
  const Tensor bias = Tensor::copy_of<float>(std::vector<float>(kN, 1.0f), {kN});
  int compared = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract == nullptr || row.parameters.needs_statistics) continue;
    const LayerTensors written =
        write_layer_params(row, {.name = "l", .weight = weight, .bias = bias}, {}, ctx);
    const LayerFile file = {.layer = "l",
                            .prefix = "l",
                            .file = "",
                            .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                              for (const NamedTensor& t : written) {
                                if (t.name == name) return t.tensor;
                              }
                              return std::nullopt;
                            }};
    const auto expected = make_linear_state(read_layer_params(row, file), active_isa());
    const Linear random =
        random_linear({.algorithm = std::string(row.name), .n = kN, .k = kK}, active_isa());
    EXPECT_EQ(random.state()->plan, expected->plan) << row.name;
    EXPECT_EQ(random.resident_bytes(), resident_bytes(*expected)) << row.name;
    ++compared;
  }
  EXPECT_GE(compared, 10);
}

TEST(RandomLinear, ServesEveryAlgorithmThatFilesMayHold) {
  const ExecContext ctx({.threads = 1});
  int served = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract == nullptr) continue;
    const Linear linear =
        random_linear({.algorithm = std::string(row.name), .n = 40, .k = 128}, active_isa());
    const std::vector<float> x(128 * 2, 1.0f);
    std::vector<float> y(40 * 2, -1e30f);
    linear.run({x.data(), DType::kF32, 2, 128, 128}, {y.data(), DType::kF32, 2, 40, 40}, ctx);
    EXPECT_TRUE(std::ranges::all_of(y, [](float v) { return v > -1e30f; })) << row.name;
    ++served;
  }
  EXPECT_GE(served, 20);
}

TEST(RandomLinear, TakesAGroupSizeAndFloatDtypes) {
  const RandomLinear w4 = {.algorithm = "w4a16", .n = 32, .k = 256, .group_size = 128};
  EXPECT_EQ(random_linear(w4, active_isa()).state()->plan.weight.group, 128);
  const RandomLinear f32 = {.algorithm = "FLOAT", .n = 32, .k = 256, .float_dtype = DType::kF32};
  EXPECT_EQ(random_linear(f32, active_isa()).state()->plan.weight.element, Element::kF32);
  EXPECT_THROW(random_linear({.algorithm = "W8A8SC", .n = 32, .k = 256}, active_isa()), Error);
}

}  // namespace
}  // namespace mezzotint
