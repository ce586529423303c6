#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/comparison.h"
#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/report_html.h"
#include "cli/sampling_options.h"
#include "cli/verbs/verb.h"
#include "format/descriptor.h"
#include "format/output_file.h"
#include "mezzotint/error.h"
#include "models/flux.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  SamplingOptions sampling;
  std::string model;
  std::vector<std::string> quants;
  std::string out;
  std::string statistics;
  int64_t prompts = 8;
  std::optional<double> min_psnr;
  std::optional<double> min_ssim;
  bool markdown = false;
  bool force = false;
  QuantizeOptions loading;
};

// The algorithm, or the folder's name where two folders share one.
std::vector<FormSource> form_sources(const std::vector<std::string>& quants) {
  std::vector<FormSource> forms;
  std::map<std::string, int> uses;
  for (const std::string& quant : quants) {
    const QuantizedFiles files = find_quantized_files(quant);
    std::vector<std::string> overruled;  // loading says whether a key may stand twice
    std::string label = read_descriptor(files.descriptor, &overruled).model_quant_type;
    if (label.empty()) label = files.descriptor.parent_path().filename().string();
    uses[label] += 1;
    forms.push_back({.label = label, .folder = quant});
  }
  for (FormSource& form : forms) {
    if (uses[form.label] > 1) form.label += " (" + form.folder.string() + ")";
  }
  return forms;
}

ImageRequest image_request(const Options& options, const Pipeline& pipeline) {
  return {.prompt_ids = first_prompts(pipeline, options.prompts),
          .seed = options.sampling.seed,
          .steps = options.sampling.steps.value_or(pipeline.layout.default_steps),
          .guidance = options.sampling.guidance.value_or(pipeline.layout.guidance_scale)};
}

void check_gate(const char* what, const std::optional<double>& least, double found,
                const FormReport& form) {
  if (!least || found >= *least) return;
  throw Error(ErrorCode::kQuality, fmt::format("{} of {} is below the gate", what, form.label),
              {.file = form.source,
               .expected = fmt::format("at least {:g}", *least),
               .found = fmt::format("{:.4g}", found),
               .fix = "the report shows where; keep the worst layers float with --exclude"});
}

void check_gates(const Options& options, const ComparisonReport& report) {
  for (const FormReport& form : report.forms) {
    check_gate("PSNR", options.min_psnr, form.psnr_db, form);
    check_gate("SSIM", options.min_ssim, form.ssim, form);
  }
}

// Before the float model runs, which takes long.
void check_forms(const ComparisonSetup& setup, const ExecContext& ctx) {
  if (setup.loading.strictness == Strictness::kLenient) return;  // it would say everything twice
  for (const FormSource& form : setup.forms) {
    load_flux(form.folder, ctx, setup.loading, nullptr, setup.model);
  }
}

int run(Session& session, const Options& options) {
  check_output_file(options.out, options.force ? Existing::kReplace : Existing::kRefuse);
  const Pipeline pipeline = read_pipeline(options.model);
  const ComparisonSetup setup = {.title = "Float against quantized",
                                 .model = options.model,
                                 .forms = form_sources(options.quants),
                                 .request = image_request(options, pipeline),
                                 .loading = options.loading,
                                 .statistics = options.statistics};
  check_forms(setup, session.context());
  const ComparisonReport report = run_comparison(setup, pipeline, session);
  write_file_atomically(options.out, report_html(report));
  for (const std::string& note : report.notes) session.note("note   " + note);
  const TextTable table = comparison_table(report);
  std::string text = options.markdown ? to_markdown(table) : to_text(table);
  text.pop_back();
  session.print(text);
  session.print("");
  session.print(session.paint(Tone::kBold, verdict(report)));
  session.print("wrote  " + options.out);
  check_gates(options, report);
  nlohmann::json document = comparison_json(report);
  document["out"] = options.out;
  session.emit(document);
  return 0;
}

void add_run_options(CLI::App& app, Options& options) {
  app.add_option("--prompts", options.prompts, "how many of the model's prompts (8)")
      ->type_name("N")
      ->check(count_between(1, 1000));
  add_sampling(app, options.sampling, "image i starts from seed + i (0)");
}

}  // namespace

RunVerb define_compare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model, "float model folder, such as demo")->required();
  app.add_option("--quant", options->quants, "quantized folder or descriptor; may be repeated")
      ->type_name("DESCRIPTOR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->required();
  add_run_options(app, *options);
  add_loading(app, options->loading);
  app.add_option("--stats", options->statistics,
                 "what collect wrote: adds errors of outputs to the report, per layer and step")
      ->type_name("FILE.safetensors");
  app.add_option("--min-psnr", options->min_psnr, "exit 6 when a form has less, in dB")
      ->type_name("DB");
  app.add_option("--min-ssim", options->min_ssim, "exit 6 when a form has less")->type_name("S");
  app.add_flag("--md", options->markdown, "print the table as Markdown, for a pull request");
  app.add_option("-o,--output,--out", options->out, "the report to write")
      ->type_name("REPORT.html")
      ->required();
  app.add_flag("--force", options->force, "replace an existing report");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
