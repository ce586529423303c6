#include "models/flux.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"
#include "models/json_file.h"
#include "models/prompts.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;
using testing::named_noise;
using testing::relative_l2;
using testing::values_of;

const fs::path kGoldens = fs::path(MZ_SOURCE_DIR) / "testdata" / "flux";

// Both sides compute in f32 with other orders of summation; what is measured is below 2e-6.
constexpr double kParity = 1e-5;

std::vector<float> floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

struct Case {
  JsonFile json;
  FluxConfig config;
  uint64_t seed = 0;
  int64_t batch = 0, rows = 0, cols = 0, text_tokens = 0;
  std::vector<float> timestep, guidance;

  Tensor input(const std::string& name, const Shape& shape) const {
    return named_noise("input." + name, seed, shape);
  }
  TextCondition text(const std::string& prefix) const {
    return {input(prefix + "text", {batch, text_tokens, config.joint_attention_dim}),
            input(prefix + "pooled", {batch, config.pooled_projection_dim})};
  }
  Tensor latents() const { return input("latents", {batch, rows * cols, config.in_channels}); }
  FluxRope rope() const {
    if (!json.has("ids")) return flux_rope(config, text_tokens, rows, cols);
    return flux_rope(config, text_tokens, floats(json.numbers("ids")));
  }
  FluxInput flux_input() const {
    const TextCondition condition = text("");
    return {.latents = latents(),
            .text = condition.states,
            .pooled = condition.pooled,
            .timestep = timestep,
            .guidance = guidance};
  }
  std::vector<float> expected(const char* key) const { return floats(json.numbers(key)); }
};

// Reads testdata/flux/NAME.json.
Case read_case(const std::string& name) {
  Case c{.json = JsonFile::read(kGoldens / (name + ".json")),
         .config = {},
         .timestep = {},
         .guidance = {}};
  c.config = flux_config_of(c.json.object("config"));
  c.seed = static_cast<uint64_t>(c.json.integer("seed", 0));
  c.rows = c.json.integer("rows", 1);
  c.cols = c.json.integer("cols", 1);
  c.text_tokens = c.json.integer("text_tokens", 0);
  c.timestep = floats(c.json.numbers("timestep"));
  c.guidance = floats(c.json.numbers("guidance"));
  c.batch = static_cast<int64_t>(c.timestep.size());
  return c;
}

std::unique_ptr<FluxTransformer> random_model(const Case& c, const fs::path& folder) {
  testing::write_random_flux(folder, c.config, c.seed);
  return load_flux(folder, ExecContext({.threads = 1}));
}

class FluxParity : public ::testing::TestWithParam<const char*> {};

TEST_P(FluxParity, MatchesDiffusers) {
  const fs::path folder = testing::scratch_path(GetParam());
  const Case c = read_case(GetParam());
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const Tensor velocity = model->forward(c.flux_input(), c.rope(), ExecContext({.threads = 1}));
  const std::vector<float> expected = c.expected("velocity");
  ASSERT_EQ(static_cast<size_t>(velocity.size()), expected.size());
  const double error = relative_l2(values_of(velocity), expected);
  RecordProperty("relative_l2", std::to_string(error * 1e9) + "e-9");
  EXPECT_LE(error, kParity);
}

INSTANTIATE_TEST_SUITE_P(Goldens, FluxParity, ::testing::Values("guided", "deeper", "ids"),
                         [](const auto& info) { return std::string(info.param); });

// bf16 activations round every input of a product by up to 2^-9; sums over blocks stay F32. What is
// measured is 2.5e-3 to 3.1e-3.
constexpr double kBf16Distance = 0.01;

TEST_P(FluxParity, StaysNearDiffusersWithBf16Activations) {
  const fs::path folder = testing::scratch_path(std::string(GetParam()) + "_bf16");
  const Case c = read_case(GetParam());
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  FluxInput input = c.flux_input();
  input.activations = DType::kBF16;
  const Tensor velocity = model->forward(input, c.rope(), ExecContext({.threads = 1}));
  const double error = relative_l2(values_of(velocity), c.expected("velocity"));
  RecordProperty("relative_l2", std::to_string(error * 1e9) + "e-9");
  EXPECT_LE(error, kBf16Distance);
  EXPECT_GE(error, 1e-4) << "too good: not in bf16";
  EXPECT_EQ(velocity.dtype(), DType::kF32);
  std::vector<float> later = c.timestep;
  for (float& t : later) t *= 0.9f;
  input.timestep = later;
  const Tensor other = model->forward(input, c.rope(), ExecContext({.threads = 1}));
  EXPECT_GT(relative_l2(values_of(other), c.expected("velocity")), kBf16Distance);
}

TEST(FluxBf16, GivesTheSameBitsForAnyThreads) {
  const fs::path folder = testing::scratch_path("bf16_threads");
  const Case c = read_case("deeper");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  FluxInput input = c.flux_input();
  input.activations = DType::kBF16;
  const Tensor one = model->forward(input, c.rope(), ExecContext({.threads = 1}));
  const Tensor three = model->forward(input, c.rope(), ExecContext({.threads = 3}));
  EXPECT_TRUE(std::ranges::equal(values_of(one), values_of(three)));
}

TEST(FluxBf16, OtherActivationsAreRefused) {
  const fs::path folder = testing::scratch_path("bf16_other");
  const Case c = read_case("guided");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  FluxInput input = c.flux_input();
  input.activations = DType::kF16;
  try {
    model->forward(input, c.rope(), ExecContext({.threads = 1}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("activations of the Flux transformer"),
              std::string::npos);
  }
}

// A change of 0.1 in the first value of any tensor must be seen.
TEST(FluxParity, SeesOneChangedValueInEveryTensor) {
  const fs::path folder = testing::scratch_path("teeth");
  const Case c = read_case("guided");
  const std::vector<float> expected = c.expected("velocity");
  const testing::FluxTensors tensors(c.config, DType::kF32);
  for (const TensorPlan& changed : tensors.plan()) {
    testing::fresh_folder(folder);
    testing::write_text(folder / "config.json", testing::config_json(c.config));
    Writer writer(folder / testing::kWeightsName, tensors.plan());
    for (const TensorPlan& plan : tensors.plan()) {
      Tensor tensor = testing::random_parameter(plan, c.seed);
      if (plan.name == changed.name) tensor.mutable_data<float>()[0] += 0.1f;
      writer.put(plan.name, tensor);
    }
    writer.finish();
    const std::unique_ptr<FluxTransformer> model = load_flux(folder, ExecContext({.threads = 1}));
    const Tensor velocity = model->forward(c.flux_input(), c.rope(), ExecContext({.threads = 1}));
    const double error = relative_l2(values_of(velocity), expected);
    EXPECT_GT(error, kParity) << changed.name;
  }
}

TEST(FluxSampler, MatchesDiffusersWithClassifierFreeGuidance) {
  const fs::path folder = testing::scratch_path("sampler");
  const Case c = read_case("guided");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const JsonFile settings = c.json.object("sampler");
  const SchedulerConfig scheduler{.shift = settings.number("shift")};
  std::vector<int64_t> steps_seen;
  SampleRequest request{.noise = c.latents(),
                        .condition = c.text(""),
                        .negative = c.text("null_"),
                        .rows = c.rows,
                        .cols = c.cols,
                        .steps = settings.integer("steps", 1),
                        .cfg_scale = static_cast<float>(settings.number("cfg_scale")),
                        .embedded_guidance = static_cast<float>(settings.number("guidance")),
                        .on_step = [&](const StepInfo& info) { steps_seen.push_back(info.step); }};
  const Tensor latents = sample(*model, scheduler, request, ExecContext({.threads = 1}));
  EXPECT_LE(relative_l2(values_of(latents), c.expected("latents")), kParity);
  EXPECT_EQ(steps_seen, (std::vector<int64_t>{0, 1, 2}));

  request.cfg_scale += 0.001f;
  const Tensor other = sample(*model, scheduler, request, ExecContext({.threads = 1}));
  EXPECT_GT(relative_l2(values_of(other), c.expected("latents")), kParity);
}

TEST(FluxTransformer, GivesTheSameBitsForAnyThreads) {
  const fs::path folder = testing::scratch_path("threads");
  const Case c = read_case("deeper");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const Tensor one = model->forward(c.flux_input(), c.rope(), ExecContext({.threads = 1}));
  const Tensor two = model->forward(c.flux_input(), c.rope(), ExecContext({.threads = 2}));
  EXPECT_TRUE(std::ranges::equal(values_of(one), values_of(two)));
}

TEST(FluxTransformer, TreatsTheSamplesOfABatchAlone) {
  const fs::path folder = testing::scratch_path("batch");
  const Case c = read_case("guided");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const ExecContext ctx({.threads = 1});
  const FluxInput both = c.flux_input();
  const Tensor velocity = model->forward(both, c.rope(), ctx);
  const auto row = [](const Tensor& tensor, int64_t i) {
    Shape shape = tensor.shape();
    shape.front() = 1;
    const int64_t count = element_count(shape);
    return Tensor::copy_of<float>({tensor.data<float>() + i * count, static_cast<size_t>(count)},
                                  shape);
  };
  for (int64_t i = 0; i < 2; ++i) {
    const auto at = static_cast<size_t>(i);
    const FluxInput one{.latents = row(both.latents, i),
                        .text = row(both.text, i),
                        .pooled = row(both.pooled, i),
                        .timestep = both.timestep.subspan(at, 1),
                        .guidance = both.guidance.subspan(at, 1)};
    const Tensor alone = model->forward(one, c.rope(), ctx);
    EXPECT_LE(relative_l2(values_of(alone), values_of(row(velocity, i))), 1e-6) << i;
  }
}

TEST(FluxTransformer, RoundsTheTimestepWhenAskedTo) {
  const fs::path folder = testing::scratch_path("timestep");
  const Case c = read_case("ids");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const ExecContext ctx({.threads = 1});
  FluxInput input = c.flux_input();  // timestep 0.9375
  const Tensor exact = model->forward(input, c.rope(), ctx);
  input.timestep_dtype = TimestepDtype::kBF16;
  const Tensor rounded = model->forward(input, c.rope(), ctx);
  const float t936[] = {0.936f};
  input.timestep_dtype = TimestepDtype::kF32;
  input.timestep = t936;
  const Tensor as_936 = model->forward(input, c.rope(), ctx);
  EXPECT_LE(relative_l2(values_of(rounded), values_of(as_936)), 1e-6);
  EXPECT_GT(relative_l2(values_of(rounded), values_of(exact)), 1e-3);
}

TEST(FluxTransformer, NamesEveryLinearAndAttentionOnce) {
  const fs::path folder = testing::scratch_path("names");
  const Case c = read_case("guided");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  const ModuleMap map = model->modules();
  std::vector<std::string> names, expected;
  for (const Linear* linear : map.linears) names.push_back(linear->name() + ".weight");
  const testing::FluxTensors tensors(c.config, DType::kF32);
  for (const TensorPlan& plan : tensors.plan()) {
    if (plan.shape.size() == 2) expected.push_back(plan.name);
  }
  std::ranges::sort(names);
  std::ranges::sort(expected);
  EXPECT_EQ(names, expected);
  ASSERT_EQ(map.attentions.size(), 2u);
  EXPECT_EQ(map.attentions[0]->name(), "transformer_blocks.0.attn");
  EXPECT_EQ(map.attentions[1]->name(), "single_transformer_blocks.0.attn");
  ASSERT_EQ(map.groups.size(), 3u);
  EXPECT_EQ(map.groups[2]->members.size(), 4u);
  // As python/tests see them in diffusers: after the linear that reads first.
  EXPECT_EQ(map.groups[0]->name, "transformer_blocks.0.attn.to_q");
  EXPECT_EQ(map.groups[1]->name, "transformer_blocks.0.attn.add_q_proj");
  EXPECT_EQ(map.groups[2]->name, "single_transformer_blocks.0.proj_mlp");
}

TEST(FluxTransformer, ShowsTheInputOfEveryLinearToATap) {
  const fs::path folder = testing::scratch_path("tap");
  const Case c = read_case("guided");
  const std::unique_ptr<FluxTransformer> model = random_model(c, folder);
  std::vector<std::string> seen;
  const Tap tap{.on_linear_input = [&](std::string_view name, const ConstMatrix&, int step) {
    EXPECT_EQ(step, 4);
    seen.emplace_back(name);
  }};
  model->forward(c.flux_input(), c.rope(), ExecContext({.threads = 1, .tap = &tap}).at_step(4));
  const ModuleMap map = model->modules();
  size_t grouped = 0;
  for (const LinearGroup* group : map.groups) {
    grouped += group->members.size();
    EXPECT_EQ(std::ranges::count(seen, group->name), 1) << group->name;
  }
  EXPECT_EQ(seen.size(), map.linears.size() - grouped + map.groups.size());
}

}  // namespace
}  // namespace mezzotint
