#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/pipeline.h"
#include "cli/sampling_options.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "models/image_io.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  SamplingOptions sampling;
  std::string model;
  std::string quant;
  std::string embeddings;
  std::string noise;
  std::string latents;
  std::string out;
  std::optional<int64_t> prompt_id;
  std::vector<int64_t> grid;  // rows, columns
  bool force = false;
  QuantizeOptions loading;
};

// What the model folder says, where it says anything.
struct Surroundings {
  SchedulerConfig scheduler;
  std::optional<PixelLayout> layout;
  std::optional<PromptSet> prompts;
};

void refuse_quantized(const fs::path& model) {
  if (!is_quantized_path(model)) return;
  throw Error(ErrorCode::kUsage,
              "this is a quantized folder, which holds no prompts and no sampler",
              {.file = model.string(),
               .fix = "mezzotint generate MODEL --quant " + model.string() +
                      ", where MODEL is the float model's folder"});
}

Surroundings read_surroundings(const Options& options) {
  Surroundings found;
  const fs::path folder = pipeline_folder(options.model);
  if (folder.empty()) {
    const fs::path model = fs::absolute(options.model).lexically_normal();
    const bool inside = fs::exists(model / "scheduler");
    if (!inside && !fs::exists(model.parent_path() / "scheduler")) refuse_quantized(model);
    found.scheduler = read_scheduler_config(inside ? model : model.parent_path());
    return found;
  }
  found.scheduler = read_scheduler_config(folder);
  found.layout = read_pixel_layout(folder);
  if (fs::exists(folder / "prompts.json")) found.prompts = read_prompts(folder);
  return found;
}

void check_options(const Options& options) {
  if (!options.prompt_id && options.embeddings.empty()) {
    throw Error(ErrorCode::kUsage, "what should the image show?",
                {.expected = "--prompt-id N or --embeddings FILE", .found = "neither"});
  }
  if (options.out.empty() && options.latents.empty()) {
    throw Error(ErrorCode::kUsage, "nowhere to write to",
                {.expected = "-o OUT.png or --save-latents FILE", .found = "neither"});
  }
  const Existing existing = options.force ? Existing::kReplace : Existing::kRefuse;
  if (!options.out.empty()) {
    if (fs::path(options.out).extension() != ".png") {
      throw Error(ErrorCode::kUsage, "the output of generate is a PNG file",
                  {.expected = "a name that ends in .png", .found = options.out});
    }
    check_output_file(options.out, existing);
  }
  if (!options.latents.empty()) check_output_file(options.latents, existing);
}

void require_decoder(const Options& options, const Surroundings& found) {
  if (found.layout || options.out.empty()) return;
  throw Error(ErrorCode::kUnsupported, "this model needs an image decoder that is not there",
              {.file = options.model,
               .expected = "pixels.json, which says how the model's tokens are pixels",
               .found = "none",
               .fix = "leave out -o and use --save-latents FILE"});
}

Tensor read_noise(const fs::path& file, const Shape& shape) {
  const WeightStore store = WeightStore::open_file(file);
  if (store.tensors().size() != 1) {
    throw Error(ErrorCode::kInput, "which tensor is the noise?",
                {.file = file.string(),
                 .expected = "one tensor",
                 .found = plural(static_cast<int64_t>(store.tensors().size()), "tensor")});
  }
  const Tensor noise = store.read(store.tensors().front().name);
  const int64_t count = element_count(shape);
  if (noise.dtype() == DType::kF32 && noise.size() == count) return noise.reshaped(shape);
  throw Error(ErrorCode::kInput, "the noise has the wrong shape",
              {.tensor = store.tensors().front().name,
               .file = file.string(),
               .expected = "F32 " + to_string(shape),
               .found = std::string(dtype_name(noise.dtype())) + " " + to_string(noise.shape())});
}

void save_latents(const fs::path& file, const Tensor& latents) {
  Writer writer(file, {{.name = "latents", .dtype = latents.dtype(), .shape = latents.shape()}});
  writer.put(std::string("latents"), latents);
  writer.finish();
}

Embeddings choose_embeddings(const Options& options, const Surroundings& found) {
  if (!options.embeddings.empty()) return read_embeddings(options.embeddings);
  if (found.prompts) return found.prompts->embeddings;
  throw Error(ErrorCode::kUnsupported, "this model ships no prompts",
              {.file = options.model, .fix = "--embeddings FILE with states and pooled"});
}

float choose_guidance(const Options& options, const Surroundings& found, bool embedded) {
  constexpr float kFluxGuidance = 3.5f;  // what diffusers' FluxPipeline takes
  if (options.sampling.guidance) return *options.sampling.guidance;
  if (found.layout) return found.layout->guidance_scale;
  return embedded ? kFluxGuidance : 1.0f;
}

void set_text(const Options& options, const Surroundings& found, SampleRequest& request) {
  const Embeddings embeddings = choose_embeddings(options, found);
  const int64_t row = options.prompt_id.value_or(0);
  request.condition = embeddings.select(std::vector<int64_t>{row});
  if (request.cfg_scale == 1.0f) return;
  request.negative = embeddings.null_condition;
  if (!request.negative && found.prompts) {
    request.negative = found.prompts->embeddings.null_condition;
  }
  if (request.negative) return;
  throw Error(ErrorCode::kUsage, "guidance needs the states of the empty prompt",
              {.file = options.embeddings,
               .expected = "null_states and null_pooled",
               .found = "none",
               .fix = "--guidance 1"});
}

void set_grid(const Options& options, const Surroundings& found, SampleRequest& request) {
  if (options.grid.empty() && !found.layout) {
    throw Error(ErrorCode::kUsage, "how large should the image be?",
                {.expected = "--grid ROWS,COLUMNS in tokens", .found = "nothing"});
  }
  request.rows = options.grid.empty() ? found.layout->grid() : options.grid[0];
  request.cols = options.grid.empty() ? found.layout->grid() : options.grid[1];
  const bool fits = !found.layout ||
                    (request.rows == found.layout->grid() && request.cols == found.layout->grid());
  if (fits || options.out.empty()) return;
  throw Error(ErrorCode::kUsage, "the model's images have one size",
              {.expected = fmt::format("--grid {0},{0}", found.layout->grid()),
               .found = fmt::format("{},{}", request.rows, request.cols),
               .fix = "leave out --grid, or use --save-latents instead of -o"});
}

SampleRequest make_request(const Options& options, const Surroundings& found,
                           const FluxTransformer& model) {
  constexpr int64_t kDefaultSteps = 28;  // diffusers' FluxPipeline
  SampleRequest request;
  const bool embedded = model.config.guidance_embeds;
  const float guidance = choose_guidance(options, found, embedded);
  request.cfg_scale = embedded ? 1.0f : guidance;
  if (embedded) request.embedded_guidance = guidance;
  request.steps =
      options.sampling.steps.value_or(found.layout ? found.layout->default_steps : kDefaultSteps);
  set_grid(options, found, request);
  set_text(options, found, request);
  const Shape shape = {1, request.rows * request.cols, model.config.in_channels};
  request.noise = options.noise.empty() ? seeded_noise(options.sampling.seed, 1, shape[1], shape[2])
                                        : read_noise(options.noise, shape);
  return request;
}

std::string prompt_text(const Options& options, const Surroundings& found) {
  if (!options.embeddings.empty() || !found.prompts || !options.prompt_id) return "";
  return found.prompts->prompts[static_cast<size_t>(*options.prompt_id)].text;
}

void tell(const Session& session, const Options& options, const std::string& prompt,
          const Report& loaded, const std::vector<double>& seconds) {
  double total = 0;
  for (const double s : seconds) total += s;
  if (!prompt.empty()) session.print("prompt " + printable(prompt));
  for (const std::string& file : {options.out, options.latents}) {
    if (!file.empty()) session.print("wrote  " + file);
  }
  session.print(fmt::format("       {} in {}", plural(static_cast<int64_t>(seconds.size()), "step"),
                            human_seconds(total)));
  nlohmann::json document = {{"seed", options.sampling.seed},
                             {"steps", seconds.size()},
                             {"seconds", total},
                             {"model", options.quant.empty() ? options.model : options.quant}};
  document["unmatched"] = loaded.unmatched;
  document["notes"] = loaded.notes;
  if (!prompt.empty()) document["prompt"] = prompt;
  if (!options.out.empty()) document["out"] = options.out;
  if (!options.latents.empty()) document["latents"] = options.latents;
  session.emit(document);
}

int run(Session& session, const Options& options) {
  check_options(options);
  const ExecContext ctx = session.context();
  const std::string source = options.quant.empty() ? options.model : options.quant;
  if (!fs::exists(source))
    throw Error(ErrorCode::kInput, "no such file or folder", {.file = source});
  const Surroundings found = read_surroundings(options);
  require_decoder(options, found);
  Report loaded;
  const auto model = load_flux(source, ctx, options.loading, &loaded, options.model);
  SampleRequest request = make_request(options, found, *model);
  Progress progress = session.progress("generating");
  std::vector<double> seconds;
  progress.update(0, static_cast<double>(request.steps), "starting");
  request.on_step = [&](const StepInfo& step) {
    seconds.push_back(step.seconds);
    progress.update(static_cast<double>(step.step + 1), static_cast<double>(step.steps),
                    fmt::format("step {} of {}", step.step + 1, step.steps));
  };
  const Tensor latents = sample(*model, found.scheduler, request, ctx);
  progress.finish();
  if (!options.latents.empty()) save_latents(options.latents, latents);
  if (!options.out.empty()) {
    write_png(options.out, to_rgb(tokens_to_images(*found.layout, latents).front()));
  }
  tell(session, options, prompt_text(options, found), loaded, seconds);
  return 0;
}

}  // namespace

RunVerb define_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model, "model folder, such as demo")->required();
  app.add_option("--quant", options->quant, "quantized folder or descriptor to run instead")
      ->type_name("DESCRIPTOR");
  add_loading(app, options->loading);
  app.add_option("--prompt-id", options->prompt_id,
                 "row of the model's prompts, or of --embeddings")
      ->type_name("N")
      ->check(not_negative());
  app.add_option("--embeddings", options->embeddings, "safetensors with states and pooled")
      ->type_name("FILE");
  add_sampling(app, options->sampling, "seed of the starting noise (0)");
  app.add_option("--grid", options->grid, "image size in tokens, for models without pixels.json")
      ->type_name("ROWS,COLUMNS")
      ->delimiter(',')
      ->expected(2)
      ->check(count_between(1, 4096));
  app.add_option("--noise", options->noise, "starting noise: safetensors with one F32 tensor")
      ->type_name("FILE");
  app.add_option("--save-latents", options->latents, "write the latents as safetensors")
      ->type_name("FILE");
  app.add_option("-o,--output,--out", options->out, "the image to write")->type_name("OUT.png");
  app.add_flag("--force", options->force, "replace existing files");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
