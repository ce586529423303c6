#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/layer_summary.h"
#include "cli/machine.h"
#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "format/output_file.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/calibrator.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string source;
  std::string out;
  std::string component = "transformer";
  std::string report_file;
  std::vector<std::string> rules;
  std::vector<std::string> attentions;
  std::string max_shard_size;
  std::optional<int> rank;
  std::optional<double> least_sqnr;
  bool force = false;
  bool layers = false;
  ExportOptions exported;
};

Rule parse_rule(const std::string& text) {
  // The last '=': a regular expression may hold one, the name of an algorithm does not.
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    throw Error(
        ErrorCode::kUsage, "--rule",
        {.expected = "PATTERN=ALGO", .found = text, .fix = "for example --rule '*.norm*=float'"});
  }
  const std::string pattern = text.substr(0, equals);
  return {.pattern = pattern,
          .algorithm = text.substr(equals + 1),
          .reason = fmt::format("--rule {}", text)};
}

// ALGO[:PATTERN[:HEAD_DIM]]; a pattern may hold colons ("re:..."), digits after the last one are
// the head_dim.
AttentionRule parse_attention(const std::string& text) {
  const auto malformed = [&] {
    return Error(ErrorCode::kUsage, "--fa",
                 {.expected = "ALGO[:PATTERN[:HEAD_DIM]]",
                  .found = text,
                  .fix = "for example --fa fp8_dynamic, or --fa 'fp8_dynamic:blocks.*.attn:128'"});
  };
  const size_t colon = text.find(':');
  AttentionRule rule = {.algorithm = text.substr(0, colon)};
  if (rule.algorithm.empty()) throw malformed();
  if (colon == std::string::npos) return rule;
  rule.pattern = text.substr(colon + 1);
  const size_t last = rule.pattern.rfind(':');
  if (last != std::string::npos && last + 1 < rule.pattern.size() &&
      rule.pattern.find_first_not_of("0123456789", last + 1) == std::string::npos) {
    const char* digits = rule.pattern.data() + last + 1;
    const char* end = rule.pattern.data() + rule.pattern.size();
    if (std::from_chars(digits, end, rule.head_dim).ec != std::errc() || rule.head_dim == 0) {
      throw malformed();
    }
    rule.pattern.resize(last);
  }
  if (rule.pattern.empty()) throw malformed();
  return rule;
}

int64_t parse_shard_size(const std::string& text) {
  if (text.empty()) return 0;
  const std::optional<int64_t> bytes = parse_bytes(text);
  if (bytes) return *bytes;
  throw Error(ErrorCode::kUsage, "--max-shard-size",
              {.expected = "a size such as 5GB or 700MiB", .found = text});
}

Existing existing_policy(const Options& options) {
  if (options.force) return Existing::kReplace;
  if (options.exported.resume || options.exported.dry_run) return Existing::kResume;
  return Existing::kRefuse;
}

ExportOptions export_options(const Options& options) {
  ExportOptions exported = options.exported;
  for (const std::string& rule : options.rules) exported.rules.push_back(parse_rule(rule));
  for (const std::string& rule : options.attentions) {
    exported.attentions.push_back(parse_attention(rule));
  }
  exported.max_shard_bytes = parse_shard_size(options.max_shard_size);
  exported.rank = options.rank;
  exported.overwrite = options.force;
  return exported;
}

void check_places(const Options& options) {
  if (options.exported.algorithm.empty() && options.rules.empty() && options.attentions.empty()) {
    throw Error(ErrorCode::kUsage, "which algorithm?",
                {.expected = "--algo NAME, --rule for some layers, or --fa for attentions",
                 .found = "none",
                 .fix = "mezzotint list-algorithms"});
  }
  const Calibration& how = options.exported.calibration;
  if (how.statistics.empty() && to_text(how) != to_text(Calibration{})) {
    throw Error(ErrorCode::kUsage, "--range, --smooth and --gptq need statistics",
                {.expected = "--stats FILE", .found = "none", .fix = "mezzotint collect"});
  }
  if (options.exported.resume && options.force) {
    throw Error(ErrorCode::kUsage, "--resume and --force contradict each other");
  }
  if (fs::path(options.out).extension() == ".safetensors") {
    throw Error(ErrorCode::kUsage, "the output of quantize is a folder",
                {.expected = "the name of a folder", .found = options.out});
  }
  check_apart(options.source, options.out);
  check_output_folder(options.out, existing_policy(options));
  const fs::path report_folder = fs::path(options.report_file).parent_path();
  const bool made_by_this_run =
      fs::weakly_canonical(report_folder) == fs::weakly_canonical(options.out);
  if (options.report_file.empty() || (made_by_this_run && !fs::exists(report_folder))) return;
  check_output_file(options.report_file, options.force ? Existing::kReplace : Existing::kRefuse);
}

void print_plan(const Session& session, const Report& plan) {
  if (session.quiet()) return;
  session.print(fmt::format("plan   {} -> {}   {} to quantize, {} kept float",
                            human_bytes(plan.bytes_before), human_bytes(plan.bytes_after),
                            plural(plan.quantized(), "layer"), plan.kept()));
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

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !name.starts_with('.')) names.push_back(name);
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
  if (!options.report_file.empty()) session.print("wrote  " + options.report_file);
  if (session.quiet()) return;
  session.print(
      fmt::format("next   mezzotint inspect {0} --check   or   mezzotint compare {1} "
                  "--quant {0} -o report.html",
                  shell_quoted(options.out), shell_quoted(options.source)));
}

nlohmann::json result_json(const Options& options, const Report& report, double seconds) {
  nlohmann::json document = {{"out", options.out},
                             {"dry_run", options.exported.dry_run},
                             {"seconds", seconds},
                             {"peak_memory_bytes", peak_memory_bytes()},
                             {"report", report_json(report)}};
  if (!options.exported.dry_run) document["files"] = files_in(options.out);
  return document;
}

void print_layers(const Session& session, const Options& options, const Report& report) {
  if (!options.layers && !session.verbose()) return;
  std::string text = to_text(layer_table(report));
  text.pop_back();
  session.print(text);
}

void check_gate(const Options& options, const Report& report) {
  const LayerReport* worst = worst_layer(report);
  if (!options.least_sqnr || worst == nullptr || worst->weight_sqnr_db >= *options.least_sqnr)
    return;
  throw Error(ErrorCode::kQuality, "the SQNR of a layer is below the gate",
              {.layer = worst->name,
               .file = options.out,
               .expected = fmt::format("at least {:g} dB", *options.least_sqnr),
               .found = fmt::format("{:.1f} dB", worst->weight_sqnr_db),
               .fix = "keep the layer float with --exclude, or give it another --rule"});
}

int run(Session& session, const Options& options) {
  const ExportOptions exported = export_options(options);
  check_places(options);
  const auto started = std::chrono::steady_clock::now();
  const ExecContext ctx = session.context();
  const WeightStore source = WeightStore::open(options.source, options.component);
  ExportOptions planned = exported;
  planned.dry_run = true;
  Report report = export_quantized(source, options.out, planned, ctx);
  print_plan(session, report);
  if (!exported.dry_run) {
    check_disk_space(options.out, report.bytes_after);
    report = run_export(session, options, source, exported, ctx);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (!options.report_file.empty())
    write_file_atomically(options.report_file, to_json(report) + "\n");
  print_layers(session, options, report);
  if (!exported.dry_run) print_result(session, options, report, seconds);
  check_gate(options, report);
  session.emit(result_json(options, report, seconds));
  return 0;
}

void add_layer_choice(CLI::App& app, Options& options) {
  app.add_option("--algo", options.exported.algorithm, "algorithm, in any case: list-algorithms")
      ->type_name("NAME");
  app.add_option("--rule", options.rules, "other algorithm, or float, for some layers; first wins")
      ->type_name("PATTERN=ALGO")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--fa", options.attentions, "quantize attentions, as the preset or PATTERN names")
      ->type_name("ALGO[:PATTERN[:HEAD_DIM]]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--exclude", options.exported.exclude, "keep these layers float; always wins")
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--preset", options.exported.preset, "auto, none or a name of `presets`")
      ->type_name("NAME");
  app.add_option("--group-size", options.exported.group_size, "elements per scale where it applies")
      ->type_name("N")
      ->check(not_negative());
}

void add_calibration(CLI::App& app, Calibration& how) {
  app.add_option("--stats", how.statistics, "what collect wrote: for algorithms that need it")
      ->type_name("FILE.safetensors");
  app.add_option("--range", how.range, "of static scales: mse, minmax or percentile; needs --stats")
      ->type_name("RULE")
      ->transform(choice_of<RangeRule>({{"mse", RangeRule::kMse},
                                        {"minmax", RangeRule::kMinMax},
                                        {"percentile", RangeRule::kPercentile}}));
  app.add_option("--smooth", how.smoothing, "search (with --stats) or none")
      ->type_name("MODE")
      ->transform(
          choice_of<Smoothing>({{"search", Smoothing::kSearch}, {"none", Smoothing::kNone}}));
  app.add_flag_callback(
      "--gptq", [&how] { how.feedback = ErrorFeedback::kAlways; },
      "error feedback for every algorithm's weights; needs --stats");
}

}  // namespace

RunVerb define_quantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "safetensors file, index.json or model folder")
      ->required();
  app.add_option("-o,--output,--out", options->out, "the folder to write")
      ->type_name("DIR")
      ->required();
  add_layer_choice(app, *options);
  add_calibration(app, options->exported.calibration);
  app.add_option("--component", options->component, "part of a pipeline folder")->type_name("NAME");
  app.add_option("--rank", options->rank, "write the _R suffix of a rank")
      ->type_name("R")
      ->check(not_negative());
  add_compat(app, options->exported.compat, "its exporter's scales and codes, int4 unpacked");
  app.add_option("--max-shard-size", options->max_shard_size, "split the weights, such as 5GB")
      ->type_name("SIZE");
  app.add_flag("--dry-run", options->exported.dry_run, "say what would be done, write nothing");
  app.add_flag("--resume", options->exported.resume, "go on with an interrupted run");
  app.add_flag("--force", options->force, "replace an existing output");
  app.add_option("--report", options->report_file, "write what was done to every layer, as JSON")
      ->type_name("FILE");
  app.add_flag("--layers", options->layers, "print one line per layer");
  app.add_option("--fail-below-sqnr", options->least_sqnr, "exit 6 when a layer has less, in dB")
      ->type_name("DB");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
