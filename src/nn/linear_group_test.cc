#include <gtest/gtest.h>

#include <random>

#include "mezzotint/linear.h"
#include "nn/linear_input.h"
#include "nn/linear_state.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

constexpr int64_t kM = 11;
constexpr int64_t kK = 96;

LinearParams params_of(const char* algorithm, const LayerTensors& tensors, bool smoothed) {
  const LayerFile file = {.layer = "l",
                          .prefix = smoothed ? "l.linear" : "l",
                          .file = "memory",
                          .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                            for (const NamedTensor& t : tensors) {
                              if (t.name == name) return t.tensor;
                            }
                            return std::nullopt;
                          }};
  return read_layer_params(*find_algorithm(algorithm), file);
}

Linear make(const std::string& name, const char* algorithm, int64_t n, bool smoothed,
            uint64_t seed) {
  std::mt19937_64 random(seed);
  const LayerTensors tensors = make_random_layer(*find_algorithm(algorithm), "l",
                                                 {.dims = {n, kK}, .smoothing = smoothed}, random);
  return Linear(name, n, kK,
                make_linear_state(params_of(algorithm, tensors, smoothed), active_isa()));
}

// Members of every kind: two that share codes, smoothed ones, float activations, float weights.
struct MixedGroup {
  MixedGroup() {
    std::mt19937_64 random(20);
    linears.push_back(make("q", "W8A8_DYNAMIC", 5, false, 21));
    linears.push_back(make("k", "W8A8_DYNAMIC", 9, false, 22));
    linears.push_back(make("v", "W8A8_DYNAMIC", 7, true, 23));
    linears.push_back(make("a", "W8A16", 6, false, 24));
    linears.push_back(make("b", "W8A16", 3, true, 25));
    linears.push_back(Linear::from_float("c", normal_tensor(DType::kBF16, {4, kK}, random), {}));
    for (Linear& linear : linears) group.members.push_back(&linear);
    group.name = "qkv";
    x = normal_tensor(DType::kBF16, {kM, kK}, random);
  }

  ConstMatrix input() const { return {x.raw(), x.dtype(), kM, kK, kK}; }

  static Tensor output_of(const Linear& linear) {
    return Tensor::allocate(DType::kBF16, {kM, linear.out_features()});
  }
  static Matrix view(const Tensor& y) {
    return {y.buffer().mutable_data(), y.dtype(), y.dim(0), y.dim(1), y.dim(1)};
  }

  std::vector<Linear> linears;
  LinearGroup group;
  Tensor x;
};

TEST(LinearGroup, GivesTheBitsOfEveryMemberAlone) {
  const MixedGroup mixed;
  const ExecContext ctx({.threads = 2});
  std::vector<Tensor> together;
  std::vector<Matrix> views;
  for (const Linear& linear : mixed.linears) {
    together.push_back(MixedGroup::output_of(linear));
    views.push_back(MixedGroup::view(together.back()));
  }
  run_group(mixed.group, mixed.input(), views, ctx);
  for (size_t i = 0; i < mixed.linears.size(); ++i) {
    const Tensor alone = MixedGroup::output_of(mixed.linears[i]);
    mixed.linears[i].run(mixed.input(), MixedGroup::view(alone), ctx);
    EXPECT_TRUE(same_bytes(alone, together[i])) << mixed.linears[i].name();
  }
}

TEST(LinearGroup, MakesEveryFormOfTheInputOnce) {
  const MixedGroup mixed;
  const ExecContext ctx({.threads = 1});
  LinearInput input(mixed.input(), ctx);
  std::vector<LinearTile> tiles(mixed.linears.size());
  for (size_t i = 0; i < tiles.size(); ++i) {
    const LinearState& state = *mixed.linears[i].state();
    const Tensor& mul = state.mul_scale;
    const std::span<const float> factors =
        mul.empty() ? std::span<const float>()
                    : std::span<const float>(mul.data<float>(), static_cast<size_t>(mul.size()));
    input.fill({.kind = activation_form(state.plan),
                .scheme = state.plan.activation,
                .mul_scale = factors},
               state.isa, tiles[i]);
  }
  EXPECT_EQ(tiles[0].xq, tiles[1].xq);   // same scheme, no smoothing: one set of codes
  EXPECT_NE(tiles[0].xq, tiles[2].xq);   // smoothed: its own codes
  EXPECT_EQ(tiles[3].x, mixed.x.raw());  // float activations: the caller's x
  EXPECT_NE(tiles[4].x, mixed.x.raw());  // smoothed, in f32
  EXPECT_EQ(tiles[4].x_type, FloatType::kF32);
  EXPECT_EQ(tiles[5].x, mixed.x.raw());
}

TEST(LinearGroup, TellsTheTapOnceUnderItsOwnName) {
  const MixedGroup mixed;
  std::vector<std::string> seen;
  Tap tap;
  tap.on_linear_input = [&](std::string_view name, const ConstMatrix& x, int step) {
    seen.push_back(std::string(name) + " " + std::to_string(x.rows) + " " + std::to_string(step));
  };
  const ExecContext ctx = ExecContext({.threads = 1}).with_tap(&tap).at_step(3);
  std::vector<Tensor> outputs;
  std::vector<Matrix> views;
  for (const Linear& linear : mixed.linears) {
    outputs.push_back(MixedGroup::output_of(linear));
    views.push_back(MixedGroup::view(outputs.back()));
  }
  run_group(mixed.group, mixed.input(), views, ctx);
  mixed.linears[0].run(mixed.input(), views[0], ctx);
  EXPECT_EQ(seen, (std::vector<std::string>{"qkv 11 3", "q 11 3"}));
}

TEST(LinearGroup, AWrongLastOutputIsRefusedBeforeTheFirstMemberRuns) {
  const MixedGroup mixed;
  std::vector<Tensor> outputs;
  std::vector<Matrix> views;
  for (const Linear& linear : mixed.linears) {
    outputs.push_back(MixedGroup::output_of(linear));
    std::memset(outputs.back().buffer().mutable_data(), 0x55,
                static_cast<size_t>(outputs.back().byte_size()));
    views.push_back(MixedGroup::view(outputs.back()));
  }
  views.back().cols += 1;
  const Error error =
      error_of([&] { run_group(mixed.group, mixed.input(), views, ExecContext({.threads = 1})); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_EQ(error.details().layer, "c");
  EXPECT_EQ(static_cast<int>(outputs[0].raw()[0]), 0x55);
  views.pop_back();
  EXPECT_EQ(
      error_of([&] { run_group(mixed.group, mixed.input(), views, ExecContext({.threads = 1})); })
          .details()
          .layer,
      "qkv");
}

}  // namespace
}  // namespace mezzotint
