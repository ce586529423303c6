// One double and one single block with the true widths of FLUX.1 and random bf16 weights.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <vector>

#include "models/flux.h"
#include "models/flux_testing.h"
#include "numerics/bf16.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTextTokens = 16, kRows = 8, kCols = 8;

const FluxConfig& true_widths() {
  static const FluxConfig config = [] {
    FluxConfig c;
    c.num_layers = 1;
    c.num_single_layers = 1;
    c.guidance_embeds = true;
    return c;
  }();
  return config;
}

// bf16 values drawn from one pool of noise: 540 million true draws would take a minute.
class NoisePool {
 public:
  NoisePool() : values_(testing::named_noise("pool", 1, {1 << 20})) {}

  Tensor draw(const TensorPlan& plan) {
    Tensor tensor = Tensor::allocate(plan.dtype, plan.shape);
    const bool matrix = plan.shape.size() == 2;
    const float scale = matrix ? 1.0f / std::sqrt(static_cast<float>(plan.shape[1])) : 0.1f;
    const float offset = !matrix && plan.name.ends_with(".weight") ? 1.0f : 0.0f;
    auto* out = reinterpret_cast<uint16_t*>(tensor.buffer().mutable_data());
    const auto pool = testing::values_of(values_);
    for (int64_t i = 0; i < tensor.size(); ++i) {
      next_ = next_ + 1 == pool.size() - 3 ? 0 : next_ + 1;  // a period that no width divides
      out[i] = bf16_from_float(offset + scale * pool[next_]);
    }
    return tensor;
  }

 private:
  Tensor values_;
  size_t next_ = 0;
};

fs::path write_model() {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("true_widths"));
  testing::write_text(folder / "config.json", testing::config_json(true_widths()));
  const testing::FluxTensors tensors(true_widths(), DType::kBF16);
  Writer writer(folder / testing::kWeightsName, tensors.plan());
  NoisePool pool;
  for (const TensorPlan& plan : tensors.plan()) writer.put(plan.name, pool.draw(plan));
  writer.finish();
  return folder;
}

TEST(SlowFluxTrueWidths, LoadsAndRunsWithTheSameBitsForAnyThreads) {
  const fs::path folder = write_model();
  const ExecContext one({.threads = 1}), two({.threads = 2});
  const auto model = load_flux(folder, two);
  const float timestep[] = {0.5f}, guidance[] = {3.5f};
  const FluxInput input{.latents = testing::named_noise("latents", 1, {1, kRows * kCols, 64}),
                        .text = testing::named_noise("text", 1, {1, kTextTokens, 4096}),
                        .pooled = testing::named_noise("pooled", 1, {1, 768}),
                        .timestep = timestep,
                        .guidance = guidance};
  const FluxRope rope = flux_rope(true_widths(), kTextTokens, kRows, kCols);
  const Tensor a = model->forward(input, rope, one);
  const Tensor b = model->forward(input, rope, two);
  const std::span<const float> values = testing::values_of(a);
  EXPECT_TRUE(std::ranges::all_of(values, [](float x) { return std::isfinite(x); }));
  EXPECT_GT(std::ranges::count_if(values, [](float x) { return std::abs(x) > 0.01f; }), 1000);
  EXPECT_TRUE(std::ranges::equal(values, testing::values_of(b)));
  fs::remove_all(folder);
}

}  // namespace
}  // namespace mezzotint
