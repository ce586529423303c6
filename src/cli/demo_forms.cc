#include "cli/demo_forms.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "models/outlier_variant.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

// What stays float beside what the preset of the architecture keeps.
constexpr const char* kModulation = "*.norm*.linear";
constexpr double kSameVelocity = 1e-5;  // f32 rounding gives about 2e-7

bool needs_only_weights(const AlgorithmRow& row) {
  if (row.attention != nullptr) return true;
  return row.contract != nullptr && row.contract->quantize != nullptr &&
         !row.parameters.needs_statistics;
}

bool writes_the_same(const AlgorithmRow& a, const AlgorithmRow& b) {
  return a.contract == b.contract && a.attention == b.attention && a.parameters == b.parameters;
}

ImageRequest one_image(const ImageRequest& request, int64_t steps, float guidance) {
  return {.prompt_ids = {request.prompt_ids.front()},
          .seed = request.seed,
          .steps = steps,
          .guidance = guidance};
}

Tensor latents_of(const fs::path& model, const Pipeline& pipeline, const ImageRequest& request,
                  const ExecContext& ctx) {
  return make_images(
             *load_flux(model, ctx), pipeline, request, [](const StepInfo&) {}, ctx)
      .latents;
}

// One step goes from sigma 1 to 0: latents = noise - velocity.
std::vector<double> velocity_of(const fs::path& model, const Pipeline& pipeline,
                                const ImageRequest& request, const ExecContext& ctx) {
  const Tensor latents = latents_of(model, pipeline, one_image(request, 1, 1.0f), ctx);
  const Tensor noise = seeded_noise(request.seed, 1, latents.dim(1), latents.dim(2));
  std::vector<double> velocity;
  for (int64_t i = 0; i < latents.size(); ++i) {
    velocity.push_back(double{noise.data<float>()[i]} - double{latents.data<float>()[i]});
  }
  return velocity;
}

double relative_l2(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace

std::vector<DemoForm> demo_forms() {
  std::vector<DemoForm> forms;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!needs_only_weights(row)) continue;
    const auto twin = std::ranges::find_if(
        forms, [&](const DemoForm& form) { return writes_the_same(*form.row, row); });
    if (twin == forms.end()) {
      forms.push_back({.row = &row});
    } else {
      twin->same.push_back(row.name);
    }
  }
  return forms;
}

FormSource quantize_for_demo(const fs::path& model, const fs::path& out,
                             const AlgorithmRow& algorithm, std::string_view what,
                             const Session& session) {
  Progress progress = session.progress(fmt::format("quantizing {}, {}", algorithm.name, what));
  ExportOptions exported;
  if (algorithm.attention != nullptr) {
    exported.attentions = {{.algorithm = std::string(algorithm.name)}};
  } else {
    exported.algorithm = std::string(algorithm.name);
  }
  exported.exclude = {kModulation};
  exported.overwrite = true;
  exported.progress = [&progress](const ExportProgress& state) {
    progress.update(static_cast<double>(state.bytes_done), static_cast<double>(state.bytes_total),
                    state.layer);
  };
  Report report = export_quantized(WeightStore::open(model), out, exported, session.context());
  progress.finish();
  session.note(fmt::format("{}, {}: {}", algorithm.name, what, summary(report)));
  return {.label = std::string(algorithm.name), .folder = out, .exported = std::move(report)};
}

void check_reference_repeats(const Pipeline& pipeline, const fs::path& model,
                             const ImageRequest& request) {
  constexpr int64_t kSteps = 2;
  const ImageRequest small = one_image(request, kSteps, request.guidance);
  const Tensor once = latents_of(model, pipeline, small, ExecContext({.threads = 1}));
  const Tensor again = latents_of(model, pipeline, small, ExecContext({.threads = 2}));
  if (std::ranges::equal(once.buffer().bytes(), again.buffer().bytes())) return;
  throw Error(ErrorCode::kInternal, "the float model does not repeat itself",
              {.file = model.string(),
               .expected = "the same bits on one and on two threads",
               .found = "others"});
}

double make_outlier_model(const Pipeline& pipeline, const fs::path& model, const fs::path& out,
                          const ImageRequest& request, const ExecContext& ctx) {
  write_outlier_variant(WeightStore::open(model), out, {});
  const double difference = relative_l2(velocity_of(out, pipeline, request, ctx),
                                        velocity_of(model, pipeline, request, ctx));
  if (difference <= kSameVelocity) return difference;
  throw Error(ErrorCode::kInternal, "the outlier variant computes something else",
              {.file = out.string(),
               .expected = fmt::format("a velocity within {:g} (relative L2)", kSameVelocity),
               .found = fmt::format("{:.2g}", difference)});
}

}  // namespace mezzotint::cli
