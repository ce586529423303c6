#include "bench/flux_cases.h"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "bench/random_tensor.h"
#include "format/temp_folder.h"
#include "models/flux.h"
#include "models/flux_testing.h"
#include "nn/attention_state.h"
#include "nn/linear_state.h"
#include "nn/random_linear.h"
#include "solve/hadamard.h"

namespace mezzotint::bench {
namespace {

constexpr int64_t kText = 512, kRows = 32, kCols = 32;

FluxConfig two_blocks() {
  FluxConfig config;
  config.num_layers = 1;
  config.num_single_layers = 1;
  config.guidance_embeds = true;
  return config;
}

// The model without the weights of its linears: only norms stand in the file.
std::unique_ptr<FluxTransformer> empty_model() {
  const FluxConfig config = two_blocks();
  const TempFolder folder;
  std::vector<TensorPlan> norms;
  const testing::FluxTensors all(config, DType::kF32);
  for (const TensorPlan& plan : all.plan()) {
    if (plan.shape == Shape{config.attention_head_dim}) norms.push_back(plan);
  }
  const std::filesystem::path file = folder.path() / testing::kWeightsName;
  Writer writer(file, norms);
  for (const TensorPlan& plan : norms) writer.put(plan.name, random_tensor(plan.dtype, plan.shape));
  writer.finish();
  return FluxTransformer::load(WeightStore::open_file(file), config, Missing::kLeaveEmpty);
}

void fill_linears(FluxTransformer& model, const std::string& block_algorithm, DType float_dtype) {
  for (Linear* linear : model.modules().linears) {
    const bool in_block = linear->name().find("transformer_blocks.") != std::string::npos;
    const Linear filled = random_linear({.algorithm = in_block ? block_algorithm : "float",
                                         .n = linear->out_features(),
                                         .k = linear->in_features(),
                                         .float_dtype = float_dtype},
                                        active_isa());
    linear->set_state(filled.state());
  }
}

void set_fp8_attention(FluxTransformer& model) {
  for (Attention* attention : model.modules().attentions) {
    const int64_t dim = attention->shape().head_dim;
    const Tensor rotation = make_rotation(dim, kRotationSeed);
    attention->set_state(make_fp8_attention_state(rotation, rotation, 1.0f, active_isa()));
  }
}

struct Problem {
  std::unique_ptr<FluxTransformer> model;
  Tensor latents, text, pooled;
  FluxRope rope;
  DType activations;

  void run(const ExecContext& ctx) const {
    constexpr float kTimestep[] = {0.5f}, kGuidance[] = {3.5f};
    const FluxInput input = {.latents = latents,
                             .text = text,
                             .pooled = pooled,
                             .timestep = kTimestep,
                             .guidance = kGuidance,
                             .activations = activations};
    const Tensor velocity = model->forward(input, rope, ctx);
  }
};

std::shared_ptr<Problem> make_problem(const Path& path) {
  std::unique_ptr<FluxTransformer> model = empty_model();
  fill_linears(*model, std::string(path.algorithm), path.io);
  if (path.algorithm == "W8A8_DYNAMIC") set_fp8_attention(*model);
  const FluxConfig config = two_blocks();
  const FluxRope rope = flux_rope(config, kText, kRows, kCols);
  return std::make_shared<Problem>(
      Problem{.model = std::move(model),
              .latents = random_tensor(DType::kF32, {1, kRows * kCols, config.in_channels}),
              .text = random_tensor(DType::kF32, {1, kText, config.joint_attention_dim}),
              .pooled = random_tensor(DType::kF32, {1, config.pooled_projection_dim}),
              .rope = rope,
              .activations = path.io});
}

// Products and sums of the linears of the blocks and of their attentions.
double operations() {
  const FluxConfig config = two_blocks();
  const auto width = static_cast<double>(config.width());
  const auto image = static_cast<double>(kRows * kCols), text = static_cast<double>(kText);
  const double joint = image + text;
  const double linears = 2 * 12 * width * width * joint;  // qkv, out and the MLP, per block
  const double attention = 4 * joint * joint * width;
  return 2 * (linears + attention);
}

}  // namespace

std::vector<Case> flux_cases(const CaseOptions& options) {
  std::vector<Case> cases;
  for (const Path& path : paths()) {
    if (!options.wants(path, Op::kFluxBlocks)) continue;
    const std::shared_ptr<Problem> problem = make_problem(path);
    for (const int threads : options.threads) {
      const ExecContext ctx({.threads = threads});
      cases.push_back({.set = "flux_blocks",
                       .path = std::string(path.name),
                       .kernel = "one double, one single block",
                       .m = kRows * kCols + kText,
                       .n = two_blocks().width(),
                       .k = two_blocks().width(),
                       .threads = threads,
                       .isa = active_isa(),
                       .peak = path.peak,
                       .operations = operations(),
                       .call = [problem, ctx] { problem->run(ctx); }});
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
