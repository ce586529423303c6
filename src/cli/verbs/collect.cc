#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/pipeline.h"
#include "cli/sampling_options.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "collect/collector.h"
#include "format/content_hash.h"
#include "format/model_identity.h"
#include "format/statistics.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kDefaultSteps = 28;          // diffusers' FluxPipeline
constexpr const char* kDoneFact = "done";      // of an unfinished file: prompts that it holds
constexpr const char* kRecipeFact = "recipe";  // and what they were run with

struct Options {
  SamplingOptions sampling;
  std::string model;
  std::string embeddings;
  std::string out;
  std::optional<int64_t> prompts;
  std::vector<int64_t> grid;
  int64_t tokens = 1024;
  std::vector<std::string> gram;
  bool no_histograms = false;
  bool no_attentions = false;
  bool resume = false;
  bool force = false;
};

// Everything that the runs are made from.
struct Source {
  SchedulerConfig scheduler;
  Embeddings embeddings;
  int64_t prompts = 0;
  int64_t rows = 0, cols = 0;
  int64_t steps = 0;
  float guidance = 1.0f;
};

fs::path unfinished_file(const Options& options) { return options.out + ".unfinished.safetensors"; }

void check_options(const Options& options) {
  if (is_quantized_path(options.model)) {
    throw Error(ErrorCode::kUsage, "statistics are of a float model",
                {.file = options.model, .fix = "give the float model's folder"});
  }
  if (!fs::exists(options.model)) {
    throw Error(ErrorCode::kInput, "no such model folder", {.file = options.model});
  }
  if (fs::path(options.out).extension() != ".safetensors") {
    throw Error(ErrorCode::kUsage, "the output of collect is a safetensors file",
                {.expected = "a name that ends in .safetensors", .found = options.out});
  }
  check_output_file(options.out, options.force ? Existing::kReplace : Existing::kRefuse);
  if (options.resume || options.force || !fs::exists(unfinished_file(options))) return;
  throw Error(ErrorCode::kUsage, "an unfinished collection is there",
              {.file = unfinished_file(options).string(),
               .fix = "--resume goes on with it, --force starts again"});
}

fs::path scheduler_folder(const fs::path& model) {
  const fs::path folder = fs::absolute(model).lexically_normal();
  return fs::exists(folder / "scheduler") ? folder : folder.parent_path();
}

Source read_source(const Options& options) {
  const fs::path folder = pipeline_folder(options.model);
  Source source;
  std::optional<PixelLayout> layout;
  if (folder.empty()) {
    source.scheduler = read_scheduler_config(scheduler_folder(options.model));
  } else {
    source.scheduler = read_scheduler_config(folder);
    layout = read_pixel_layout(folder);
  }
  if (!options.embeddings.empty()) {
    source.embeddings = read_embeddings(options.embeddings);
  } else if (!folder.empty() && fs::exists(folder / "prompts.json")) {
    source.embeddings = read_prompts(folder).embeddings;
  } else {
    throw Error(ErrorCode::kUnsupported, "this model ships no prompts",
                {.file = options.model, .fix = "--embeddings FILE with states and pooled"});
  }
  source.prompts = std::min(options.prompts.value_or(8), source.embeddings.count());
  if (options.prompts.value_or(0) > source.embeddings.count()) {
    throw Error(ErrorCode::kUsage, "there are fewer prompts",
                {.expected = fmt::format("up to {}", source.embeddings.count()),
                 .found = std::to_string(*options.prompts)});
  }
  if (options.grid.empty() && !layout) {
    throw Error(ErrorCode::kUsage, "how large should the images be?",
                {.expected = "--grid ROWS,COLUMNS in tokens", .found = "nothing"});
  }
  source.rows = options.grid.empty() ? layout->grid() : options.grid[0];
  source.cols = options.grid.empty() ? layout->grid() : options.grid[1];
  source.steps = options.sampling.steps.value_or(layout ? layout->default_steps : kDefaultSteps);
  source.guidance = options.sampling.guidance.value_or(layout ? layout->guidance_scale : 1.0f);
  return source;
}

SampleRequest request_of(const Options& options, const Source& source, const FluxTransformer& model,
                         int64_t prompt) {
  SampleRequest request;
  request.noise = seeded_noise(options.sampling.seed + static_cast<uint64_t>(prompt), 1,
                               source.rows * source.cols, model.config.in_channels);
  request.condition = source.embeddings.select(std::vector<int64_t>{prompt});
  request.rows = source.rows;
  request.cols = source.cols;
  request.steps = source.steps;
  if (model.config.guidance_embeds) {
    request.embedded_guidance = source.guidance;
    return request;
  }
  request.cfg_scale = source.guidance;
  if (source.guidance == 1.0f) return request;
  request.negative = source.embeddings.null_condition;
  if (request.negative) return request;
  throw Error(ErrorCode::kUsage, "guidance needs the states of the empty prompt",
              {.file = options.embeddings,
               .expected = "null_states and null_pooled",
               .found = "none",
               .fix = "--guidance 1"});
}

// What must be equal for a run to go on with what another one began.
std::string recipe_of(const Options& options, const Source& source, const std::string& identity) {
  HashStream text;
  for (const Tensor* t : {&source.embeddings.rows.states, &source.embeddings.rows.pooled}) {
    text.add(t->buffer().bytes());
  }
  return fmt::format(
      "model {} text {} grid {}x{} steps {} guidance {:g} seed {} tokens {} gram {} "
      "histograms {} attentions {}",
      identity, to_hex(text.finish()), source.rows, source.cols, source.steps, source.guidance,
      options.sampling.seed, options.tokens, fmt::join(options.gram, " "), !options.no_histograms,
      !options.no_attentions);
}

// The earlier run's statistics, or none.
Statistics earlier_statistics(const Options& options, const std::string& recipe) {
  const fs::path file = unfinished_file(options);
  if (!options.resume || !fs::exists(file)) return {};
  Statistics stats = read_statistics(file);
  if (stats.facts[kRecipeFact] == recipe) return stats;
  throw Error(ErrorCode::kUsage, "the unfinished collection was begun with other options",
              {.file = file.string(),
               .expected = recipe,
               .found = stats.facts[kRecipeFact],
               .fix = "the same options, or --force to start again"});
}

int64_t prompts_done(const Statistics& stats) {
  const auto done = stats.facts.find(kDoneFact);
  return done == stats.facts.end() ? 0 : std::stoll(done->second);
}

struct Run {
  const FluxTransformer& model;
  const Source& source;
  std::string recipe;
};

// Every prompt in turn; what each leaves is on disk before the next begins.
void run_prompts(const Session& session, const Options& options, const Run& run, int64_t done,
                 Collector& collector, const ExecContext& ctx) {
  Progress progress = session.progress("collecting");
  const auto total = static_cast<double>(run.source.prompts * run.source.steps);
  for (int64_t prompt = done; prompt < run.source.prompts; ++prompt) {
    SampleRequest request = request_of(options, run.source, run.model, prompt);
    request.on_step = [&](const StepInfo& step) {
      progress.update(static_cast<double>(prompt * step.steps + step.step + 1), total,
                      fmt::format("prompt {} of {}", prompt + 1, run.source.prompts));
    };
    sample(run.model, run.source.scheduler, request, ctx.with_tap(&collector.tap()));
    if (prompt + 1 == run.source.prompts) break;
    Statistics so_far = collector.statistics();
    so_far.facts = {{kDoneFact, std::to_string(prompt + 1)}, {kRecipeFact, run.recipe}};
    write_statistics(unfinished_file(options), so_far);
  }
  progress.finish();
}

void tell(const Session& session, const Options& options, const Source& source,
          const Statistics& stats, double seconds) {
  int64_t rows = 0;
  for (const InputStatistics& in : stats.inputs) rows = std::max(rows, in.rows);
  const auto bytes = static_cast<int64_t>(fs::file_size(options.out));
  session.print(fmt::format("done   {}, {} of {}, up to {} rows each",
                            plural(static_cast<int64_t>(stats.inputs.size()), "input"),
                            plural(source.prompts, "prompt"), plural(source.steps, "step"), rows));
  session.print(
      fmt::format("wrote  {}  {} in {}", options.out, human_bytes(bytes), human_seconds(seconds)));
  if (!session.quiet()) {
    session.print(fmt::format("next   mezzotint quantize {} -o DIR --algo w8a8_timestep --stats {}",
                              shell_quoted(options.model), shell_quoted(options.out)));
  }
  session.emit({{"out", options.out},
                {"inputs", stats.inputs.size()},
                {"prompts", source.prompts},
                {"steps", source.steps},
                {"rows", rows},
                {"bytes", bytes},
                {"seconds", seconds}});
}

int run(Session& session, const Options& options) {
  check_options(options);
  const auto started = std::chrono::steady_clock::now();
  const ExecContext ctx = session.context();
  const Source source = read_source(options);
  const auto model = load_flux(options.model, ctx);
  const std::string identity = model_identity(WeightStore::open(options.model));
  const std::string recipe = recipe_of(options, source, identity);
  const Statistics earlier = earlier_statistics(options, recipe);
  CollectOptions how = {.steps = source.steps,
                        .sigmas = {},
                        .tokens = options.tokens,
                        .histograms = !options.no_histograms,
                        .gram = options.gram,
                        .attentions = !options.no_attentions};
  how.sigmas = make_schedule(source.scheduler, source.steps, source.rows * source.cols).sigmas;
  how.sigmas.resize(static_cast<size_t>(source.steps));
  Collector collector(model->modules(), identity, how, earlier, ctx);
  run_prompts(session, options, {*model, source, recipe}, prompts_done(earlier), collector, ctx);
  const Statistics stats = collector.statistics();
  write_statistics(options.out, stats);
  std::error_code ignored;
  fs::remove(unfinished_file(options), ignored);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  tell(session, options, source, stats, seconds);
  return 0;
}

void add_run_options(CLI::App& app, Options& options) {
  app.add_option("--embeddings", options.embeddings, "safetensors with states and pooled")
      ->type_name("FILE");
  app.add_option("--prompts", options.prompts, "how many rows of the text, from the first (8)")
      ->type_name("N")
      ->check(count_between(1, 1'000'000));
  add_sampling(app, options.sampling, "prompt i starts from noise of seed + i (0)");
  app.add_option("--grid", options.grid, "image size in tokens, for models without pixels.json")
      ->type_name("ROWS,COLUMNS")
      ->delimiter(',')
      ->expected(2)
      ->check(count_between(1, 4096));
}

}  // namespace

RunVerb define_collect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model, "float model folder, such as demo")->required();
  add_run_options(app, *options);
  app.add_option("--tokens", options->tokens, "rows of every input to keep as a sample (1024)")
      ->type_name("N")
      ->check(count_between(0, 1'000'000));
  app.add_option("--gram", options->gram, "Gram matrices, K x K floats, of these layers: for GPTQ")
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--no-histograms", options->no_histograms, "no histograms, for static scales");
  app.add_flag("--no-attentions", options->no_attentions,
               "no errors of FP8 attention, which runs beside the float one for them");
  app.add_flag("--resume", options->resume, "go on with an interrupted run");
  app.add_option("-o,--output,--out", options->out, "the file to write")
      ->type_name("FILE.safetensors")
      ->required();
  app.add_flag("--force", options->force, "replace an existing file");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
