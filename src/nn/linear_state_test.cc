// What a file holds comes back out of a packed state, byte for byte, for every algorithm.
#include "nn/linear_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "quant/random_layer.h"

namespace mezzotint {
namespace {

LayerFile file_of(const LayerTensors& tensors, const LayerDims& dims, bool smoothing) {
  return {.layer = "l",
          .prefix = smoothing ? "l.linear" : "l",
          .file = "f",
          .tensor = [&tensors](const std::string& name) -> std::optional<Tensor> {
            const auto it = std::ranges::find(tensors, name, &NamedTensor::name);
            if (it == tensors.end()) return std::nullopt;
            return it->tensor;
          },
          .dims = {.n = dims.n, .k = dims.k}};
}

std::vector<TensorPlan> forms_of(const LayerTensors& tensors) {
  std::vector<TensorPlan> forms;
  for (const NamedTensor& t : tensors) {
    forms.push_back({.name = t.name, .dtype = t.tensor.dtype(), .shape = t.tensor.shape()});
  }
  return forms;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::ranges::equal(a.buffer().bytes(), b.buffer().bytes());
}

TEST(LinearState, GivesTheTensorsOfTheFileBack) {
  std::mt19937_64 random(7);
  int cases = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract == nullptr) continue;
    for (const bool smoothing : {false, true}) {
      LayerDims dims = {.n = 33, .k = 66};
      if (has_groups(row)) dims.groups = 3;
      dims.steps = 3;
      dims.rank = row.parameters.low_rank || smoothing ? 2 : 0;
      const LayerTensors tensors =
          make_random_layer(row, "l", {.dims = dims, .bias = true, .smoothing = smoothing}, random);
      const LinearParams params = read_layer_params(row, file_of(tensors, dims, smoothing));
      const LinearParams again = params_of(*make_linear_state(params, active_isa()));
      EXPECT_EQ(again.plan, params.plan) << row.name;
      EXPECT_EQ(again.algorithm, params.algorithm);
      const LayerTensors rewritten = rewrite_layer_params(row, again, forms_of(tensors));
      ASSERT_EQ(rewritten.size(), tensors.size());
      for (size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_EQ(rewritten[i].name, tensors[i].name);
        EXPECT_TRUE(same_bytes(rewritten[i].tensor, tensors[i].tensor))
            << row.name << " " << tensors[i].name;
      }
      ++cases;
    }
  }
  EXPECT_EQ(cases, 40);
}

}  // namespace
}  // namespace mezzotint
