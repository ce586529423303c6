#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/comparison.h"
#include "cli/layer_summary.h"
#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/report_html.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "format/output_file.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMarker = ".mezzotint_demo";

struct Options {
  std::string model = "demo";
  std::string out = "build/demo";
  int64_t images = 16;
  uint64_t seed = 0;
  std::optional<int64_t> steps;
};

// A second run replaces what the first one wrote, but nothing that is not ours.
void prepare_folder(const fs::path& out) {
  std::error_code ignored;
  const bool is_ours = fs::exists(out / kMarker, ignored);
  check_output_folder(out, is_ours ? Existing::kReplace : Existing::kRefuse);
  fs::create_directories(out, ignored);
  write_file_atomically(out / kMarker, "The demo writes here. Everything may be deleted.\n");
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  return out;
}

// Every algorithm that needs nothing but the weights; aliases once.
std::vector<const AlgorithmRow*> demo_algorithms() {
  std::vector<const AlgorithmRow*> rows;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status == AlgorithmStatus::kServed && row.name == row.canonical) rows.push_back(&row);
  }
  return rows;
}

FormSource quantize_for_demo(const Session& session, const Options& options,
                             const AlgorithmRow& algorithm, const ExecContext& ctx) {
  const fs::path out = fs::path(options.out) / lower(algorithm.name);
  Progress progress = session.progress(fmt::format("quantizing {}", algorithm.name));
  ExportOptions exported;
  exported.algorithm = std::string(algorithm.name);
  exported.overwrite = true;
  exported.progress = [&progress](const ExportProgress& state) {
    progress.update(static_cast<double>(state.bytes_done), static_cast<double>(state.bytes_total),
                    state.layer);
  };
  Report report = export_quantized(WeightStore::open(options.model), out, exported, ctx);
  progress.finish();
  session.note(fmt::format("{}: {}", algorithm.name, summary(report)));
  return {.label = std::string(algorithm.name), .folder = out, .exported = std::move(report)};
}

void write_reports(const Options& options, const ComparisonReport& report) {
  const fs::path out = options.out;
  write_file_atomically(out / "report.html", report_html(report));
  write_file_atomically(out / "report.json", comparison_json(report).dump(2) + "\n");
  write_sheet(out / "grid.png", report);
}

void print_report(const Session& session, const Options& options, const ComparisonReport& report,
                  double seconds) {
  std::string text = to_text(comparison_table(report));
  text.pop_back();
  session.print(text);
  session.print("");
  session.print(session.paint(Tone::kBold, verdict(report)));
  for (const char* name : {"report.html", "report.json", "grid.png"}) {
    session.print("wrote  " + (fs::path(options.out) / name).string());
  }
  session.print(fmt::format("       in {}", human_seconds(seconds)));
  nlohmann::json document = comparison_json(report);
  document["out"] = options.out;
  document["seconds"] = seconds;
  session.emit(document);
}

int run(Session& session, const Options& options) {
  const auto started = std::chrono::steady_clock::now();
  const Pipeline pipeline = read_pipeline(options.model);
  ComparisonSetup setup;
  setup.title = "The demo model, float and quantized";
  setup.model = options.model;
  setup.request = {.prompt_ids = first_prompts(pipeline, options.images),
                   .seed = options.seed,
                   .steps = options.steps.value_or(pipeline.layout.default_steps),
                   .guidance = pipeline.layout.guidance_scale};
  prepare_folder(options.out);
  const ExecContext ctx = session.context();
  for (const AlgorithmRow* algorithm : demo_algorithms()) {
    setup.forms.push_back(quantize_for_demo(session, options, *algorithm, ctx));
  }
  const ComparisonReport report = run_comparison(setup, pipeline, session);
  write_reports(options, report);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_report(session, options, report, seconds);
  return 0;
}

}  // namespace

RunVerb define_demo(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "the model folder (demo)")->type_name("DIR");
  app.add_option("-o,--out,--output", options->out, "where everything goes (build/demo)")
      ->type_name("DIR");
  app.add_option("--images", options->images, "how many of the model's prompts (16)")
      ->type_name("N")
      ->check(count_between(1, 1000));
  app.add_option("--steps", options->steps, "denoising steps; default: the model's")
      ->type_name("N")
      ->check(count_between(1, 10000));
  app.add_option("--seed", options->seed, "image i starts from seed + i (0)")->type_name("N");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
