#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "cli/choosing.h"
#include "cli/export_options.h"
#include "cli/export_report.h"
#include "cli/layer_summary.h"
#include "cli/machine.h"
#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "format/output_file.h"
#include "format/statistics.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/recipe.h"
#include "quant/step_shares.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string source;
  std::string out;
  std::string component = "transformer";
  std::vector<std::string> report_files;
  std::string recipe_file;
  std::optional<int> rank;
  std::optional<int> world_size;
  std::optional<double> least_sqnr;
  bool force = false;
  bool layers = false;
  bool dry_run = false;
  bool resume = false;
  Compat compat = Compat::kNone;
  TypedOptions typed;
  Aim aim;
};

Existing existing_policy(const Options& options, const ExportOptions& exported) {
  if (options.force) return Existing::kReplace;
  // Of several processes the first one says whether the folder may be used.
  if (options.resume || options.dry_run || exported.worker > 0) return Existing::kResume;
  return Existing::kRefuse;
}

// One of several processes: by --rank and --world-size, or as mpirun says. --rank alone is the
// suffix of a name.
void share_work(const Options& options, ExportOptions& exported) {
  if (!options.world_size) {
    exported.rank = options.rank;
    const std::optional<LaunchedAs> launched = options.rank ? std::nullopt : env_launch();
    if (!launched) return;
    exported.worker = launched->rank;
    exported.workers = launched->world;
    return;
  }
  if (!options.rank || *options.rank >= *options.world_size) {
    throw Error(ErrorCode::kUsage, "--world-size W needs the --rank of this process",
                {.expected = fmt::format("--rank 0 to {}", *options.world_size - 1),
                 .found = options.rank ? std::to_string(*options.rank) : "none",
                 .fix = "start one process for every rank, or use mpirun"});
  }
  exported.worker = *options.rank;
  exported.workers = *options.world_size;
}

// Of W8A8_TIMESTEP layers, from parts of a run: the run is that of the statistics.
void resolve_steps(Recipe& recipe) {
  if (recipe.step_shares.empty()) return;
  const fs::path& statistics = recipe.options.calibration.statistics;
  if (statistics.empty()) {
    throw Error(ErrorCode::kUsage, "timestep: parts of a run need the statistics of one",
                {.expected = "calibration: {stats: FILE} in the recipe, or --stats FILE",
                 .found = "none",
                 .fix = "mezzotint collect, or steps as numbers: timestep: \"static 10-19\""});
  }
  recipe.options.timestep_policy =
      policy_of_shares(recipe.step_shares, read_statistics(statistics).steps);
}

// The recipe, and what is typed over it.
Recipe recipe_of(const Options& options) {
  Recipe recipe;
  if (!options.recipe_file.empty()) recipe = read_recipe(options.recipe_file);
  ExportOptions& exported = recipe.options;
  exported = over(std::move(exported), options.typed);
  resolve_steps(recipe);
  share_work(options, exported);
  exported.compat = options.compat;
  exported.resume = options.resume;
  exported.dry_run = options.dry_run;
  exported.overwrite = options.force;
  exported.output_errors = !options.report_files.empty();
  if (options.least_sqnr) recipe.least_sqnr_db = options.least_sqnr;
  return recipe;
}

void check_choice(const Options& options, const ExportOptions& exported) {
  check_statistics(options.typed, exported.calibration);
  check_aim(options.aim);
  if (!options.aim.given() && !options.aim.algorithms.empty()) {
    throw Error(ErrorCode::kUsage, "--choose-from needs an aim",
                {.expected = "--target-size or --min-sqnr", .found = "none"});
  }
  if (options.aim.given() && !exported.algorithm.empty()) {
    throw Error(ErrorCode::kUsage, "an algorithm for all layers, and a choice per layer",
                {.expected = "--algo, or --target-size or --min-sqnr with --choose-from",
                 .found = fmt::format("both, with {}", exported.algorithm)});
  }
  if (options.aim.given() || !exported.algorithm.empty() || !exported.rules.empty() ||
      !exported.attentions.empty()) {
    return;
  }
  throw Error(ErrorCode::kUsage, "which algorithm?",
              {.expected = "--algo NAME, --rule for some layers, --recipe FILE, or --fa for "
                           "attentions",
               .found = "none",
               .fix = "mezzotint list-algorithms"});
}

void check_report_file(const Options& options, const std::string& file) {
  if (!report_writer(file)) {
    throw Error(ErrorCode::kUsage, "--report",
                {.expected = "a name that ends in .html, .json or .md", .found = file});
  }
  const fs::path folder = fs::path(file).parent_path();
  const bool made_by_this_run = fs::weakly_canonical(folder) == fs::weakly_canonical(options.out);
  if (made_by_this_run && !fs::exists(folder)) return;
  check_output_file(file, options.force ? Existing::kReplace : Existing::kRefuse);
}

void check_places(const Options& options, const ExportOptions& exported) {
  if (options.resume && options.force) {
    throw Error(ErrorCode::kUsage, "--resume and --force contradict each other");
  }
  if (fs::path(options.out).extension() == ".safetensors") {
    throw Error(ErrorCode::kUsage, "the output of quantize is a folder",
                {.expected = "the name of a folder", .found = options.out});
  }
  check_apart(options.source, options.out);
  check_output_folder(options.out, existing_policy(options, exported));
  for (const std::string& file : options.report_files) check_report_file(options, file);
}

void print_plan(const Session& session, const Report& plan) {
  if (session.quiet()) return;
  session.print(fmt::format("plan   {} -> {}   {} to quantize, {} kept float",
                            human_bytes(plan.bytes_before), human_bytes(plan.bytes_after),
                            plural(plan.quantized(), "layer"), plan.kept()));
  if (plan.estimated_seconds > 0) {
    session.print(fmt::format("memory {} at most, for {}", human_bytes(plan.memory_bytes),
                              printable(plan.memory_layer)));
    session.print(fmt::format("time   about {} of quantizing, as a trial of some rows suggests",
                              human_seconds(plan.estimated_seconds)));
  }
  for (const std::string& line : kept_lines(plan)) session.print(line);
  for (const std::string& note : plan.notes) session.print("note   " + printable(note));
}

Report run_export(const Session& session, const Options& options, const WeightStore& source,
                  ExportOptions exported, const ExecContext& ctx) {
  Progress progress = session.progress("quantizing");
  exported.progress = [&progress](const ExportProgress& state) {
    const std::string note =
        state.weight_sqnr_db != 0 ? fmt::format("SQNR {:.1f} dB", state.weight_sqnr_db) : "";
    progress.update(static_cast<double>(state.bytes_done), static_cast<double>(state.bytes_total),
                    state.layer, note);
  };
  try {
    Report report = export_quantized(source, options.out, exported, ctx);
    progress.finish();
    return report;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted, "interrupted; what is finished is kept",
                {.file = options.out, .fix = "the same command with --resume goes on from here"});
  }
}

// Of an export; what else lay in the folder before is not named.
std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("quant_model_") || name == "config.json") names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void print_result(const Session& session, const Options& options, const Report& report,
                  double seconds) {
  std::string done = fmt::format("done   {} quantized, {} kept float, {} unmatched",
                                 report.quantized(), report.kept(), report.unmatched.size());
  if (const LayerReport* worst = worst_layer(report)) {
    done += fmt::format("   worst: {} {:.1f} dB", printable(worst->name), worst->weight_sqnr_db);
  }
  session.print(session.paint(Tone::kGood, done));
  session.print(fmt::format(
      "wrote  {}/  ({})  {} in {}", fs::path(options.out).lexically_normal().string(),
      joined(files_in(options.out)), human_bytes(report.bytes_after), human_seconds(seconds)));
  for (const std::string& file : options.report_files) session.print("wrote  " + file);
  if (session.quiet()) return;
  session.print(
      fmt::format("next   mezzotint inspect {0} --check   or   mezzotint compare {1} "
                  "--quant {0} -o report.html",
                  shell_quoted(options.out), shell_quoted(options.source)));
}

nlohmann::json result_json(const Options& options, const Report& report, double seconds) {
  nlohmann::json document = {{"out", options.out},
                             {"dry_run", options.dry_run},
                             {"seconds", seconds},
                             {"peak_memory_bytes", peak_memory_bytes()},
                             {"report", report_json(report)}};
  if (!options.dry_run) document["files"] = files_in(options.out);
  return document;
}

void print_layers(const Session& session, const Options& options, const Report& report) {
  if (!options.layers && !session.verbose()) return;
  std::string text = to_text(layer_table(report));
  text.pop_back();
  session.print(text);
}

void check_gate(const Options& options, const std::optional<double>& least, const Report& report) {
  const LayerReport* worst = worst_layer(report);
  if (!least || worst == nullptr || worst->weight_sqnr_db >= *least) return;
  throw Error(ErrorCode::kQuality, "the SQNR of a layer is below the gate",
              {.layer = worst->name,
               .file = options.out,
               .expected = fmt::format("at least {:g} dB", *least),
               .found = fmt::format("{:.1f} dB", worst->weight_sqnr_db),
               .fix = "keep the layer float with --exclude, or give it another --rule"});
}

// A choice per layer in place of one for all, where there is an aim.
void choose_layers(const Session& session, const Options& options, const WeightStore& source,
                   ExportOptions& exported, ExportReport& report, const ExecContext& ctx) {
  if (!options.aim.given()) return;
  const ModelAnalysis analysis = run_analysis(session, source, exported, options.aim, ctx);
  const ModelChoice choice = choose(source, exported, analysis, options.aim);
  exported = with_rules(std::move(exported), choice.rules);
  report.sizes = size_points(analysis);
  report.chosen = SizePoint{.label = "chosen", .bytes = choice.bytes, .error = choice.error};
  report.layers_analyzed = static_cast<int64_t>(analysis.layers.size());
  session.print(choice_line(analysis, choice));
}

// The one algorithm of all quantized layers, or "mixed".
std::string label_of(const Report& report) {
  std::string label;
  for (const LayerReport& layer : report.layers) {
    if (layer.algorithm == "FLOAT" || layer.algorithm == label) continue;
    if (!label.empty()) return "mixed";
    label = layer.algorithm;
  }
  return label;
}

void write_reports(const Session& session, const Options& options, ExportReport& report,
                   const ExecContext& ctx) {
  if (options.report_files.empty()) return;
  report.source = options.source;
  report.label = label_of(report.report);
  report.command = session.command();
  for (const MachineFact& fact : machine_facts(ctx)) {
    report.environment.emplace_back(fact.name, fact.value);
  }
  report.environment.emplace_back("peak memory", human_bytes(peak_memory_bytes()));
  for (const std::string& file : options.report_files) {
    write_file_atomically(file, report_writer(file).value()(report));
  }
}

// Of several processes, all but the first: they say little and leave the rest to it.
int run_worker(const Session& session, const Options& options, const WeightStore& source,
               const ExportOptions& exported, const ExecContext& ctx) {
  if (exported.dry_run) return 0;
  run_export(session, options, source, exported, ctx);
  if (!session.quiet()) {
    session.note(fmt::format("rank {} of {}: done", exported.worker, exported.workers));
  }
  return 0;
}

int run(Session& session, const Options& options) {
  Recipe recipe = recipe_of(options);
  ExportOptions& exported = recipe.options;
  check_choice(options, exported);
  check_places(options, exported);
  const auto started = std::chrono::steady_clock::now();
  const ExecContext ctx = session.context();
  const WeightStore source = WeightStore::open(options.source, options.component);
  ExportReport told;
  choose_layers(session, options, source, exported, told, ctx);
  if (exported.worker > 0) return run_worker(session, options, source, exported, ctx);
  ExportOptions planned = exported;
  planned.dry_run = true;
  planned.estimate_time = exported.dry_run;
  Report& report = told.report;
  report = export_quantized(source, options.out, planned, ctx);
  report.notes.insert(report.notes.begin(), recipe.notes.begin(), recipe.notes.end());
  print_plan(session, report);
  if (!exported.dry_run) {
    check_disk_space(options.out, report.bytes_after);
    report = run_export(session, options, source, exported, ctx);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  write_reports(session, options, told, ctx);
  print_layers(session, options, report);
  if (!exported.dry_run) print_result(session, options, report, seconds);
  check_gate(options, recipe.least_sqnr_db, report);
  session.emit(result_json(options, report, seconds));
  return 0;
}

}  // namespace

RunVerb define_quantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "safetensors file, index.json or model folder")
      ->required();
  app.add_option("-o,--output,--out", options->out, "the folder to write")
      ->type_name("DIR")
      ->required();
  app.add_option("--recipe", options->recipe_file,
                 "a recipe, as analyze writes it or of msmodelslim; what is typed goes first")
      ->type_name("FILE.yaml");
  add_layer_choice(app, options->typed);
  add_attentions(app, options->typed);
  add_keeping(app, options->typed);
  add_calibration(app, options->typed);
  add_aim(app, options->aim);
  app.add_option("--component", options->component, "part of a pipeline folder")->type_name("NAME");
  app.add_option("--rank", options->rank, "write the _R suffix of a rank; with --world-size: who")
      ->type_name("R")
      ->check(not_negative());
  app.add_option("--world-size", options->world_size, "processes that share the work; mpirun says")
      ->type_name("W")
      ->check(count_between(1, 10000));
  add_compat(app, options->compat, "its exporter's scales and codes, int4 unpacked");
  app.add_option("--max-shard-size", options->typed.max_shard_size,
                 "split the weights, such as 5GB")
      ->type_name("SIZE");
  app.add_option("--max-memory", options->typed.max_memory,
                 "refuse layers that need more, such as 8GB")
      ->type_name("SIZE");
  app.add_flag("--dry-run", options->dry_run, "plan, bytes, memory and time; write nothing");
  app.add_flag("--resume", options->resume, "go on with an interrupted run");
  app.add_flag("--force", options->force, "replace an existing output");
  app.add_option("--report", options->report_files,
                 "write what was done to every layer: .html, .json or .md; may be repeated")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--layers", options->layers, "print one line per layer");
  app.add_option("--fail-below-sqnr", options->least_sqnr, "exit 6 when a layer has less, in dB")
      ->type_name("DB");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
