#include "cli/pipeline.h"

#include <algorithm>
#include <system_error>

#include <fmt/format.h>

#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::optional<TextCondition> negative_condition(const Pipeline& pipeline, float guidance) {
  if (guidance == 1.0f) return std::nullopt;
  const std::optional<TextCondition>& null = pipeline.prompts.embeddings.null_condition;
  if (null) return null;
  throw Error(ErrorCode::kUnsupported, "guidance needs the states of the empty prompt",
              {.file = (pipeline.folder / "prompts.safetensors").string(),
               .expected = "null_states and null_pooled",
               .found = "none",
               .fix = "--guidance 1"});
}

}  // namespace

fs::path pipeline_folder(const fs::path& model) {
  if (is_there(model / "pixels.json")) return model;
  std::error_code ignored;
  const fs::path parent = fs::absolute(model, ignored).lexically_normal().parent_path();
  return is_there(parent / "pixels.json") ? parent : fs::path();
}

Pipeline read_pipeline(const fs::path& model) {
  const fs::path folder = pipeline_folder(model);
  if (folder.empty()) {
    if (!is_there(model)) {
      throw Error(ErrorCode::kInput, "no such model folder", {.file = model.string()});
    }
    throw Error(ErrorCode::kUnsupported, "this model needs an image decoder that is not there",
                {.file = model.string(),
                 .expected = "pixels.json, which says how the model's tokens are pixels",
                 .found = "none",
                 .fix = "`generate --embeddings FILE --save-latents FILE` works without one"});
  }
  Pipeline pipeline{.folder = folder,
                    .scheduler = read_scheduler_config(folder),
                    .layout = read_pixel_layout(folder),
                    .prompts = read_prompts(folder),
                    .classifier = std::nullopt};
  if (is_there(folder / "classifier"))
    pipeline.classifier = Classifier::load(folder / "classifier");
  return pipeline;
}

Tensor seeded_noise(uint64_t seed, int64_t images, int64_t tokens, int64_t channels) {
  Tensor noise = Tensor::allocate(DType::kF32, {images, tokens, channels});
  for (int64_t i = 0; i < images; ++i) {
    const Tensor one = starting_noise(seed + static_cast<uint64_t>(i), 0, {1, tokens, channels});
    std::copy_n(one.data<float>(), one.size(), noise.mutable_data<float>() + i * one.size());
  }
  return noise;
}

ImageRun make_images(const FluxTransformer& model, const Pipeline& pipeline,
                     const ImageRequest& request,
                     const std::function<void(const StepInfo&)>& on_step, const ExecContext& ctx) {
  const PixelLayout& layout = pipeline.layout;
  std::vector<double> seconds;
  SampleRequest sampling;
  sampling.noise = seeded_noise(request.seed, static_cast<int64_t>(request.prompt_ids.size()),
                                layout.grid() * layout.grid(), layout.token_channels());
  sampling.condition = pipeline.prompts.embeddings.select(request.prompt_ids);
  sampling.negative = negative_condition(pipeline, request.guidance);
  sampling.rows = layout.grid();
  sampling.cols = layout.grid();
  sampling.steps = request.steps;
  sampling.cfg_scale = request.guidance;
  if (model.config.guidance_embeds) sampling.embedded_guidance = request.guidance;
  sampling.on_step = [&](const StepInfo& step) {
    seconds.push_back(step.seconds);
    on_step(step);
  };
  ImageRun run;
  run.latents = sample(model, pipeline.scheduler, sampling, ctx);
  run.images = tokens_to_images(layout, run.latents);
  run.step_seconds = median(std::move(seconds));
  return run;
}

int64_t resident_bytes(FluxTransformer& model) {
  int64_t bytes = 0;
  for (const Linear* linear : model.modules().linears) bytes += linear->resident_bytes();
  return bytes;
}

int64_t weight_file_bytes(const fs::path& model) {
  const fs::path weights = is_quantized_path(model) ? find_quantized_files(model).weights : model;
  int64_t bytes = 0;
  const WeightStore store = WeightStore::open(weights);
  for (const fs::path& file : store.files()) {
    bytes += static_cast<int64_t>(fs::file_size(file));
  }
  return bytes;
}

}  // namespace mezzotint::cli
