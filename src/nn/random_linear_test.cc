#include "nn/random_linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

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

int64_t bits_of(Element element) {
  switch (element) {
    case Element::kInt4:
    case Element::kE2M1:
      return 4;
    case Element::kInt8:
    case Element::kE4M3:
    case Element::kE5M2:
      return 8;
    case Element::kBF16:
    case Element::kF16:
      return 16;
    case Element::kF32:
      break;
  }
  return 32;
}

// Packed code bytes and scales over what codes and scales need: n * k * bits / 8 and the scales.
double packed_over_needed(const LinearState& state) {
  int64_t scales = 0;
  for (const Tensor* t :
       {&state.weight_scale, &state.weight_offset, &state.block_scale, &state.dual_scale}) {
    if (!t->empty()) scales += t->byte_size();
  }
  const int64_t needed = state.plan.n * state.plan.k * bits_of(state.plan.weight.element) / 8;
  return static_cast<double>(state.blob.size() + scales) / static_cast<double>(needed + scales);
}

TEST(RandomLinear, PacksIntoFivePercentMoreThanCodesAndScalesNeed) {
  int packed = 0;
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    for (const AlgorithmRow& row : algorithm_rows()) {
      if (row.contract == nullptr) continue;
      for (const auto& [n, k] : {std::pair{256, 512}, std::pair{288, 1088}}) {
        const Linear linear = random_linear({.algorithm = std::string(row.name), .n = n, .k = k},
                                            static_cast<Isa>(isa));
        EXPECT_LE(packed_over_needed(*linear.state()), 1.05) << row.name << " " << n << " " << k;
        ++packed;
      }
      // The bound has teeth: rows that are no whole panel of 32 take more.
      if (row.name != "W4A4_DYNAMIC" || isa == 0) continue;
      const Linear tail =
          random_linear({.algorithm = "W4A4_DYNAMIC", .n = 33, .k = 512}, static_cast<Isa>(isa));
      EXPECT_GT(packed_over_needed(*tail.state()), 1.05);
    }
  }
  EXPECT_GE(packed, 40);
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
