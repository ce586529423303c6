#include "nn/random_linear.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"
#include "nn/linear_state.h"
#include "numerics/bf16.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

// Weights of the size that layers have: |w| about 1/sqrt(k) for k = 3072.
constexpr float kWeightSize = 0.02f;

// Normal values, drawn once and picked at random: 100 M weights in a second.
class NormalValues {
 public:
  explicit NormalValues(uint32_t seed) : random_(seed), values_(size_t{1} << 12) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0.0f, kWeightSize);
    std::ranges::generate(values_, [&] { return normal(rng); });
  }
  float next() { return values_[random_() & (values_.size() - 1)]; }

 private:
  std::minstd_rand random_;
  std::vector<float> values_;
};

Tensor float_tensor(DType dtype, const Shape& shape, uint32_t seed) {
  NormalValues values(seed);
  Tensor tensor = Tensor::allocate(dtype, shape);
  if (dtype == DType::kF32) {
    std::generate_n(tensor.mutable_data<float>(), tensor.size(), [&] { return values.next(); });
    return tensor;
  }
  MZ_CHECK(dtype == DType::kBF16);
  auto* bits = reinterpret_cast<uint16_t*>(tensor.buffer().mutable_data());
  std::generate_n(bits, tensor.size(), [&] { return bf16_from_float(values.next()); });
  return tensor;
}

Linear float_linear(const RandomLinear& what, Isa isa) {
  const Tensor weight = float_tensor(what.float_dtype, {what.n, what.k}, what.seed);
  std::optional<Tensor> bias;
  if (what.bias == HasBias::kYes) bias = float_tensor(DType::kF32, {what.n}, what.seed + 1);
  return Linear("random", what.n, what.k,
                make_linear_state(float_params("random", weight, bias), isa));
}

}  // namespace

Linear random_linear(const RandomLinear& what, Isa isa) {
  if (is_float_label(what.algorithm)) return float_linear(what, isa);
  const AlgorithmRow& row = served_algorithm(what.algorithm);
  LayerDims dims = written_dims(row, what.n, what.k, {.group_size = what.group_size});
  dims.steps = 1;
  random_layer::Random random(what.seed);
  const LayerTensors tensors = make_written_layer(row, "random", dims, what.bias, random);
  const LayerFile file = {.layer = "random",
                          .prefix = "random",
                          .file = "random weights",
                          .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                            const auto it = std::ranges::find(tensors, name, &NamedTensor::name);
                            if (it == tensors.end()) return std::nullopt;
                            return it->tensor;
                          }};
  const LinearParams params = read_layer_params(row, file);
  return Linear("random", what.n, what.k, make_linear_state(params, isa));
}

}  // namespace mezzotint
