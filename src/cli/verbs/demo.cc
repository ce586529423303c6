#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/comparison.h"
#include "cli/demo_floors.h"
#include "cli/demo_forms.h"
#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/report_html.h"
#include "cli/sampling_options.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "format/output_file.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMarker = ".mezzotint_demo";
constexpr const char* kOutlierModel = "outlier_model";

struct Options {
  SamplingOptions sampling;
  std::string model = "demo";
  std::string out = "build/demo";
  int64_t images = 16;
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

void write_reports(const Options& options, const ComparisonReport& report) {
  const fs::path out = options.out;
  write_file_atomically(out / "report.html", report_html(report));
  write_file_atomically(out / "report.json", comparison_json(report).dump(2) + "\n");
  write_sheet(out / "grid.png", report);
}

void print_report(const Session& session, const Options& options, const ComparisonReport& report,
                  double seconds, bool is_result) {
  std::string text = to_text(comparison_table(report));
  text.pop_back();
  session.print(text);
  session.print("");
  session.print(session.paint(Tone::kBold, verdict(report)));
  for (const std::string& note : report.notes) session.note("note   " + note);
  for (const char* name : {"report.html", "report.json", "grid.png"}) {
    session.print("wrote  " + (fs::path(options.out) / name).string());
  }
  session.print(fmt::format("       in {}", human_seconds(seconds)));
  if (!is_result) return;  // with --json, the error is the document
  nlohmann::json document = comparison_json(report);
  document["out"] = options.out;
  document["seconds"] = seconds;
  session.emit(document);
}

// The names that ran under another one.
std::vector<std::string> twin_notes(const std::vector<DemoForm>& forms) {
  std::vector<std::string> notes;
  for (const DemoForm& form : forms) {
    for (const std::string_view name : form.same) {
      notes.push_back(
          fmt::format("{} writes the same bytes as {} and ran once.", name, form.row->name));
    }
  }
  return notes;
}

// Sampled as the floors were measured, else as the model asks.
ComparisonSetup plain_setup(const Options& options, const Pipeline& pipeline,
                            const std::optional<DemoFloors>& floors) {
  const int64_t steps = floors ? floors->settings.steps : pipeline.layout.default_steps;
  const auto guidance =
      floors ? static_cast<float>(floors->settings.guidance) : pipeline.layout.guidance_scale;
  ComparisonSetup setup;
  setup.title = "The demo model, float and quantized";
  setup.model = options.model;
  setup.request = {.prompt_ids = first_prompts(pipeline, options.images),
                   .seed = options.sampling.seed,
                   .steps = options.sampling.steps.value_or(steps),
                   .guidance = options.sampling.guidance.value_or(guidance)};
  return setup;
}

// The same forms of the outlier variant, on the first half of the prompts.
ComparisonSetup outlier_setup(const Options& options, ComparisonSetup setup) {
  setup.model = fs::path(options.out) / kOutlierModel;
  setup.forms.clear();
  setup.activity = "generating, outlier variant";
  std::vector<int64_t>& prompts = setup.request.prompt_ids;
  prompts.resize((prompts.size() + 1) / 2);
  return setup;
}

void add_outlier_quality(const ComparisonSetup& setup, const Pipeline& pipeline, Session& session,
                         ComparisonReport& report) {
  FormReport reference = report.reference;
  reference.images.resize(setup.request.prompt_ids.size());
  const std::vector<FormReport> forms = run_forms(setup, pipeline, reference, session);
  for (size_t i = 0; i < forms.size(); ++i) {
    report.forms[i].outlier = OutlierQuality{.psnr_db = forms[i].psnr_db, .ssim = forms[i].ssim};
  }
}

// One step without guidance: later steps and guidance hide the error of one layer behind that of
// the coarser forms.
void add_one_step_quality(ComparisonSetup setup, const Pipeline& pipeline, Session& session,
                          ComparisonReport& report) {
  setup.request.steps = 1;
  setup.request.guidance = 1.0f;
  setup.activity = "generating, one step";
  const ComparisonReport one_step = run_comparison(setup, pipeline, session);
  for (size_t i = 0; i < report.forms.size(); ++i) {
    report.forms[i].one_step_psnr_db = one_step.forms[i].psnr_db;
  }
}

DemoSettings settings_of(const ComparisonSetup& plain, const ComparisonSetup& outlier) {
  return {.images = static_cast<int64_t>(plain.request.prompt_ids.size()),
          .outlier_images = static_cast<int64_t>(outlier.request.prompt_ids.size()),
          .steps = plain.request.steps,
          .seed = plain.request.seed,
          .guidance = plain.request.guidance};
}

// Adds a note for everything there is to say, and returns the failures.
std::vector<std::string> judge(const std::optional<DemoFloors>& floors,
                               const DemoSettings& settings, ComparisonReport& report) {
  if (!floors) {
    report.notes.push_back("The model has no floors.json: no PSNR was checked.");
    return {};
  }
  if (settings != floors->settings) {
    report.notes.push_back(fmt::format("The floors of {} hold for {}; this was {}: not checked.",
                                       floors->file.string(), to_string(floors->settings),
                                       to_string(settings)));
    return {};
  }
  std::vector<std::string> failures;
  for (const FloorFinding& finding : check_floors(*floors, report.forms)) {
    report.notes.push_back(finding.line);
    if (finding.is_failure) failures.push_back(finding.line);
  }
  if (failures.empty()) report.notes.push_back("No form is below its floor in floors.json.");
  return failures;
}

void refuse_failures(const Pipeline& pipeline, const std::vector<std::string>& failures) {
  if (failures.empty()) return;
  throw Error(ErrorCode::kQuality,
              fmt::format("the demo is worse than it was: {}", fmt::join(failures, "; ")),
              {.file = (pipeline.folder / "floors.json").string(),
               .fix = "report.html shows layers and pictures"});
}

int run(Session& session, const Options& options) {
  const auto started = std::chrono::steady_clock::now();
  const Pipeline pipeline = read_pipeline(options.model);
  const std::optional<DemoFloors> floors = read_demo_floors(pipeline.folder);
  ComparisonSetup plain = plain_setup(options, pipeline, floors);
  ComparisonSetup outlier = outlier_setup(options, plain);
  prepare_folder(options.out);
  check_reference_repeats(pipeline, options.model, plain.request);
  const double difference =
      make_outlier_model(pipeline, options.model, outlier.model, plain.request, session.context());
  const std::vector<DemoForm> forms = demo_forms();
  for (const DemoForm& form : forms) {
    const fs::path name = lower(form.row->name);
    plain.forms.push_back(quantize_for_demo(options.model, fs::path(options.out) / name, *form.row,
                                            "plain", session));
    outlier.forms.push_back(quantize_for_demo(
        outlier.model, fs::path(options.out) / "outlier" / name, *form.row, "outlier", session));
  }
  ComparisonReport report = run_comparison(plain, pipeline, session);
  report.reference_repeats = true;
  add_one_step_quality(plain, pipeline, session, report);
  add_outlier_quality(outlier, pipeline, session, report);
  report.notes.push_back(fmt::format(
      "Outlier columns: the variant in {} computes the same (velocity within {:.1g}), so its "
      "reference are the float images above, the first {} of them.",
      outlier.model.string(), difference, outlier.request.prompt_ids.size()));
  std::ranges::copy(twin_notes(forms), std::back_inserter(report.notes));
  const std::vector<std::string> failures = judge(floors, settings_of(plain, outlier), report);
  write_reports(options, report);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_report(session, options, report, seconds, failures.empty());
  refuse_failures(pipeline, failures);
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
  add_sampling(app, options->sampling, "image i starts from seed + i (0)",
               "as the model's floors.json was measured");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
