// Takes one layer of a float model, runs it, swaps in its quantized form and runs it again.
//
//   load_and_run_linear MODEL QUANTIZED LAYER
//   load_and_run_linear demo build/demo/w8a8_dynamic proj_out
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/error.h"
#include "mezzotint/linear.h"
#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"

namespace mz = mezzotint;

namespace {

constexpr int64_t kRows = 4;

mz::Linear load_float(const char* model, const std::string& layer) {
  const mz::WeightStore store = mz::WeightStore::open(model);
  std::optional<mz::Tensor> bias;
  if (store.find(layer + ".bias") != nullptr) bias = store.read(layer + ".bias");
  return mz::Linear::from_float(layer, store.read(layer + ".weight"), bias);
}

// y = x W^T + b on buffers that belong to us: any memory will do.
std::vector<float> run(const mz::Linear& linear, const std::vector<float>& x,
                       const mz::ExecContext& ctx) {
  const int64_t k = linear.in_features();
  const int64_t n = linear.out_features();
  std::vector<float> y(static_cast<size_t>(kRows * n));
  linear.run({x.data(), mz::DType::kF32, kRows, k, k}, {y.data(), mz::DType::kF32, kRows, n, n},
             ctx);
  std::printf("%-13s %s, %lld bytes\n", std::string(linear.algorithm()).c_str(),
              std::string(linear.kernel(kRows)).c_str(),
              static_cast<long long>(linear.resident_bytes()));
  return y;
}

double relative_l2(const std::vector<float>& value, const std::vector<float>& reference) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    error += (value[i] - reference[i]) * (value[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return std::sqrt(error / norm);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL QUANTIZED LAYER\n", argv[0]);
    return 2;
  }
  // Errors only: quantize() below warns of every layer of the folder that we do not hold.
  const mz::ExecContext ctx({.threads = 2, .log = {.level = mz::LogLevel::kError}});
  mz::Linear linear = load_float(argv[1], argv[3]);

  std::vector<float> x(static_cast<size_t>(kRows * linear.in_features()));
  std::mt19937 generator(1);
  for (float& v : x) v = std::normal_distribution<float>()(generator);
  const std::vector<float> reference = run(linear, x, ctx);

  // Lenient, because the folder describes a whole model and we hold one layer of it.
  mz::quantize({.linears = {&linear}}, argv[2], {.strictness = mz::Strictness::kLenient}, ctx);
  std::printf("relative L2 error %.2e\n", relative_l2(run(linear, x, ctx), reference));
  return 0;
} catch (const mz::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return static_cast<int>(error.code());
}
