#include "cli/comparison.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "cli/machine.h"
#include "cli/text.h"
#include "mezzotint/error.h"
#include "models/image_grid.h"
#include "models/image_io.h"
#include "models/metrics.h"
#include "quant/folder_errors.h"

namespace mezzotint::cli {
namespace {

constexpr float kDifferenceFactor = 8.0f;
constexpr int64_t kSheetScale = 3;

// Steps of all forms as one piece of work.
class StepProgress {
 public:
  StepProgress(Progress progress, const ComparisonSetup& setup, size_t runs)
      : progress_(std::move(progress)),
        total_(static_cast<double>(runs) * static_cast<double>(setup.request.steps)) {}

  void start(std::string label) {
    label_ = std::move(label);
    progress_.update(done_, total_, label_ + ": loading");
  }
  void step(const StepInfo& info) {
    done_ += 1;
    progress_.update(done_, total_,
                     fmt::format("{}: step {} of {}", label_, info.step + 1, info.steps),
                     fmt::format("{} per step", human_seconds(info.seconds)));
  }
  void finish() { progress_.finish(); }

 private:
  Progress progress_;
  double total_;
  double done_ = 0;
  std::string label_;
};

// What the pictures show: classes by the classifier, colours by the layout.
void judge_images(const Pipeline& pipeline, const ImageRequest& request,
                  const std::vector<Image>& images, const ExecContext& ctx, FormReport& form) {
  const bool has_mask = pipeline.layout.channels == 4;
  std::vector<int64_t> classes;
  if (pipeline.classifier) {
    classes = pipeline.classifier->classify(images, ctx);
    form.recognised = 0;
  }
  if (has_mask && !pipeline.layout.colors.empty()) form.colors_right = 0;
  for (size_t i = 0; i < images.size(); ++i) {
    const Prompt& prompt = pipeline.prompts.prompts[static_cast<size_t>(request.prompt_ids[i])];
    if (pipeline.classifier) {
      const bool right = classes[i] == prompt.class_index;
      form.recognised += right ? 1 : 0;
      form.captions.push_back(pipeline.classifier->class_names()[static_cast<size_t>(classes[i])] +
                              (right ? " \u2713" : " \u2717"));
    }
    if (form.colors_right < 0) continue;
    const ShownColors shown = measure_colors(images[i], pipeline.layout.colors);
    const auto name = [&](int64_t index) {
      return index < 0 ? std::string() : pipeline.layout.colors[static_cast<size_t>(index)].name;
    };
    form.colors_right += name(shown.object) == prompt.object_color &&
                         name(shown.background) == prompt.background_color;
  }
}

FormReport run_form(const std::string& label, const std::filesystem::path& source,
                    const ComparisonSetup& setup, const Pipeline& pipeline, const ExecContext& ctx,
                    StepProgress& progress) {
  progress.start(label);
  FormReport form;
  form.label = label;
  form.source = source.string();
  form.file_bytes = weight_file_bytes(source);
  const auto model = load_flux(source, ctx, setup.loading, &form.layers, setup.model);
  form.resident_bytes = resident_bytes(*model);
  const ImageRun run = make_images(
      *model, pipeline, setup.request, [&](const StepInfo& info) { progress.step(info); }, ctx);
  form.step_seconds = run.step_seconds;
  judge_images(pipeline, setup.request, run.images, ctx, form);
  for (const Image& image : run.images) form.images.push_back(to_rgb(image));
  return form;
}

// min(1, 8 |a - b|) per channel.
Image enlarged_difference(const Image& a, const Image& b) {
  MZ_CHECK(a.values.size() == b.values.size());
  Image difference = a;
  for (size_t i = 0; i < a.values.size(); ++i) {
    difference.values[i] = std::min(1.0f, kDifferenceFactor * std::abs(a.values[i] - b.values[i]));
  }
  return difference;
}

void compare_with_reference(const FormReport& reference, FormReport& form) {
  form.psnr_db = psnr(form.images, reference.images);
  form.ssim = ssim(form.images, reference.images);
  for (size_t i = 0; i < form.images.size(); ++i) {
    form.differences.push_back(enlarged_difference(form.images[i], reference.images[i]));
  }
}

std::vector<FormReport> compared_forms(const ComparisonSetup& setup, const Pipeline& pipeline,
                                       const FormReport& reference, const ExecContext& ctx,
                                       StepProgress& progress) {
  std::vector<FormReport> forms;
  for (const FormSource& source : setup.forms) {
    FormReport form = run_form(source.label, source.folder, setup, pipeline, ctx, progress);
    if (!source.exported.layers.empty()) {
      form.layers = source.exported;
    } else if (setup.loading.strictness == Strictness::kStrict) {
      add_errors(WeightStore::open(setup.model), source.folder, setup.statistics, form.layers, ctx);
    }
    compare_with_reference(reference, form);
    forms.push_back(std::move(form));
  }
  return forms;
}

NamedTexts settings_of(const ComparisonSetup& setup, const ExecContext& ctx) {
  const ImageRequest& request = setup.request;
  const size_t last = request.prompt_ids.size() - 1;
  return {{"images", std::to_string(request.prompt_ids.size())},
          {"steps", std::to_string(request.steps)},
          {"guidance", fmt::format("{:g}", request.guidance)},
          {"seeds", fmt::format("{}\u2013{}", request.seed, request.seed + last)},
          {"threads", std::to_string(ctx.threads())},
          {"model", setup.model.string()}};
}

// Wall time and processor time of this process since it was made.
class BusyMeter {
 public:
  // A sentence when other processes took so much that the times above say little; else "".
  std::string remark(int threads) const {
    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    const double used = static_cast<double>(std::clock() - cpu_started_) / CLOCKS_PER_SEC;
    const double share = used / (std::max(wall, 1e-9) * threads);
    if (wall < kLeastSeconds || share >= kQuietShare) return "";
    return fmt::format(
        "The machine was busy: this process got {:.0f} % of its {}. Times and "
        "speed-ups are rough.",
        100 * share, plural(threads, "thread"));
  }

 private:
  static constexpr double kLeastSeconds = 2;  // shorter runs are mostly loading
  static constexpr double kQuietShare = 0.4;  // loading leaves less than 1 on a quiet machine
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::clock_t cpu_started_ = std::clock();
};

}  // namespace

ComparisonReport run_comparison(const ComparisonSetup& setup, const Pipeline& pipeline,
                                Session& session) {
  const ExecContext ctx = session.context();
  StepProgress progress(session.progress(setup.activity), setup, setup.forms.size() + 1);
  const BusyMeter busy;
  ComparisonReport report;
  report.title = setup.title;
  report.command = session.command();
  for (const int64_t id : setup.request.prompt_ids) {
    report.prompts.push_back(pipeline.prompts.prompts[static_cast<size_t>(id)].text);
  }
  report.reference = run_form("float", setup.model, setup, pipeline, ctx, progress);
  report.forms = compared_forms(setup, pipeline, report.reference, ctx, progress);
  progress.finish();
  const std::string remark = busy.remark(ctx.threads());
  if (!remark.empty()) report.notes.push_back(remark);
  report.settings = settings_of(setup, ctx);
  for (const MachineFact& fact : machine_facts(ctx)) {
    report.environment.emplace_back(fact.name, fact.value);
  }
  report.environment.emplace_back("peak memory", human_bytes(peak_memory_bytes()));
  return report;
}

std::vector<FormReport> run_forms(const ComparisonSetup& setup, const Pipeline& pipeline,
                                  const FormReport& reference, Session& session) {
  StepProgress progress(session.progress(setup.activity), setup, setup.forms.size());
  std::vector<FormReport> forms =
      compared_forms(setup, pipeline, reference, session.context(), progress);
  progress.finish();
  return forms;
}

void write_sheet(const std::filesystem::path& file, const ComparisonReport& report) {
  std::vector<Image> images = report.reference.images;
  GridOptions options{.columns = static_cast<int64_t>(report.prompts.size()), .scale = kSheetScale};
  options.row_labels.emplace_back("float");
  for (const FormReport& form : report.forms) {
    images.insert(images.end(), form.images.begin(), form.images.end());
    images.insert(images.end(), form.differences.begin(), form.differences.end());
    options.row_labels.push_back(form.label);
    options.row_labels.emplace_back("difference x 8");
  }
  write_png(file, compose_grid(images, options));
}

std::vector<int64_t> first_prompts(const Pipeline& pipeline, int64_t count) {
  const auto available = static_cast<int64_t>(pipeline.prompts.prompts.size());
  if (count > available) {
    throw Error(ErrorCode::kUsage, "the model has fewer prompts",
                {.file = (pipeline.folder / "prompts.json").string(),
                 .expected = fmt::format("at most {}", available),
                 .found = std::to_string(count)});
  }
  std::vector<int64_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

}  // namespace mezzotint::cli
