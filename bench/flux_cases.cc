#include "bench/flux_cases.h"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

// One call of a transformer.
struct FluxCall {
  std::string_view set, title;
  FluxConfig config;
  int64_t batch, text, rows, cols;

  int64_t image() const { return rows * cols; }
};

// One double and one single block of FLUX.1 at the true widths, 512 x 512 pixels and 512 of text.
FluxCall two_blocks() {
  FluxConfig config;
  config.num_layers = 1;
  config.num_single_layers = 1;
  config.guidance_embeds = true;
  return {"flux_blocks", "one double, one single block", config, 1, 512, 32, 32};
}

// A step of `./x demo`: 16 prompts and as many empty ones.
FluxCall demo_step() {
  const std::filesystem::path folder = std::filesystem::path(MZ_SOURCE_DIR) / "demo/transformer";
  return {"demo_step", "the demo model, 32 samples", read_flux_config(folder), 32, 16, 8, 8};
}

bool has_fp8_attention(const Path& path) { return path.name.ends_with("_fp8"); }

// The model without the weights of its linears: only norms stand in the file.
std::unique_ptr<FluxTransformer> empty_model(const FluxConfig& config) {
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
  std::vector<float> timestep, guidance;
  FluxRope rope;
  DType activations;

  void run(const ExecContext& ctx) const {
    const FluxInput input = {.latents = latents,
                             .text = text,
                             .pooled = pooled,
                             .timestep = timestep,
                             .guidance = guidance,
                             .activations = activations};
    const Tensor velocity = model->forward(input, rope, ctx);
  }
};

std::shared_ptr<Problem> make_problem(const Path& path, const FluxCall& call) {
  const FluxConfig& config = call.config;
  std::unique_ptr<FluxTransformer> model = empty_model(config);
  fill_linears(*model, std::string(path.algorithm), path.io);
  if (has_fp8_attention(path)) set_fp8_attention(*model);
  const auto batch = static_cast<size_t>(call.batch);
  const auto random = [&](const Shape& shape) { return random_tensor(DType::kF32, shape); };
  return std::make_shared<Problem>(
      Problem{.model = std::move(model),
              .latents = random({call.batch, call.image(), config.in_channels}),
              .text = random({call.batch, call.text, config.joint_attention_dim}),
              .pooled = random({call.batch, config.pooled_projection_dim}),
              .timestep = std::vector<float>(batch, 0.5f),
              .guidance = std::vector<float>(config.guidance_embeds ? batch : 0, 3.5f),
              .rope = flux_rope(config, call.text, call.rows, call.cols),
              .activations = path.io});
}

// Products and sums of the linears of the blocks and of their attentions.
double operations(const FluxCall& call) {
  const FluxConfig& config = call.config;
  const auto width = static_cast<double>(config.width());
  const auto blocks = static_cast<double>(config.num_layers + config.num_single_layers);
  const auto joint = static_cast<double>(call.image() + call.text);
  const double linears = 12 * width * width * joint;  // qkv, out and the MLP
  const double attention = 2 * joint * joint * width;
  return 2 * blocks * static_cast<double>(call.batch) * (linears + attention);
}

}  // namespace

std::vector<Case> flux_cases(const CaseOptions& options) {
  std::vector<Case> cases;
  for (const Path& path : paths()) {
    const bool blocks = options.wants(path, Op::kFluxBlocks);
    if (!blocks && !options.wants(path, Op::kDemoStep)) continue;
    const FluxCall call = blocks ? two_blocks() : demo_step();
    const std::shared_ptr<Problem> problem = make_problem(path, call);
    for (const int threads : options.threads) {
      const ExecContext ctx({.threads = threads});
      cases.push_back({.set = std::string(call.set),
                       .path = std::string(path.name),
                       .kernel = std::string(call.title),
                       .m = call.batch * (call.image() + call.text),
                       .n = call.config.width(),
                       .k = call.config.width(),
                       .threads = threads,
                       .isa = active_isa(),
                       .peak = path.peak,
                       .operations = operations(call),
                       .call = [problem, ctx] { problem->run(ctx); }});
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
