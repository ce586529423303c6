#include "cli/choosing.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "base/byte_size.h"
#include "cli/option_checks.h"
#include "cli/text.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

std::vector<std::string> menu_of(const Aim& aim) {
  if (!aim.algorithms.empty()) return aim.algorithms;
  return {"W8A8_DYNAMIC", "W8A8_MXFP8", "W4A16", "W4A4_MXFP4"};
}

// The best algorithm alone that is as small.
const SizePoint* best_uniform(const std::vector<SizePoint>& points, int64_t bytes) {
  const SizePoint* best = nullptr;
  for (const SizePoint& point : points) {
    if (point.label.empty() || point.bytes > bytes) continue;
    if (best == nullptr || point.error < best->error) best = &point;
  }
  return best;
}

}  // namespace

void add_aim(CLI::App& app, Aim& aim) {
  app.add_option("--target-size", aim.target_size,
                 "choose per layer so that the weight files are at most this large, such as 8GB")
      ->type_name("SIZE");
  app.add_option("--min-sqnr", aim.least_sqnr_db,
                 "choose per layer the smallest with this SQNR of its outputs, else float")
      ->type_name("DB")
      ->check(number_between(-100, 1000));
  app.add_option("--choose-from", aim.algorithms,
                 "algorithms to choose from (w8a8_dynamic, w8a8_mxfp8, w4a16, w4a4_mxfp4)")
      ->type_name("NAME")
      ->expected(1)
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void check_aim(const Aim& aim) {
  if (!aim.target_size.empty() && aim.least_sqnr_db) {
    throw Error(ErrorCode::kUsage, "--target-size and --min-sqnr are two different aims",
                {.expected = "one of them", .found = "both"});
  }
  if (aim.target_size.empty() || parse_bytes(aim.target_size)) return;
  throw Error(ErrorCode::kUsage, "--target-size",
              {.expected = "a size such as 8GB or 700MiB", .found = aim.target_size});
}

ModelAnalysis run_analysis(const Session& session, const WeightStore& source,
                           const ExportOptions& options, const Aim& aim, const ExecContext& ctx) {
  Progress progress = session.progress("analyzing");
  ModelAnalysis analysis = analyze_layers(
      source, options, menu_of(aim), ctx,
      [&](double done, const std::string& layer) { progress.update(done, 1, layer); });
  progress.finish();
  return analysis;
}

ModelChoice choose(const WeightStore& source, const ExportOptions& options,
                   const ModelAnalysis& analysis, const Aim& aim) {
  if (aim.least_sqnr_db) return choose_by_quality(source, options, analysis, *aim.least_sqnr_db);
  return choose_by_size(source, options, analysis, parse_bytes(aim.target_size).value());
}

std::string choice_line(const ModelAnalysis& analysis, const ModelChoice& choice) {
  std::vector<std::string> parts;
  for (size_t a = 0; a <= analysis.algorithms.size(); ++a) {
    const auto count = std::ranges::count(choice.algorithm, a);
    if (count == 0) continue;
    parts.push_back(fmt::format("{} {}", count,
                                a < analysis.algorithms.size() ? analysis.algorithms[a] : "float"));
  }
  std::string line = fmt::format("chose  {}: {}; {}, summed error {:.4g}",
                                 plural(static_cast<int64_t>(analysis.layers.size()), "layer"),
                                 fmt::join(parts, ", "), human_bytes(choice.bytes), choice.error);
  const std::vector<SizePoint> points = uniform_points(analysis);
  if (const SizePoint* uniform = best_uniform(points, choice.bytes)) {
    line += fmt::format(" ({} alone: {}, {:.4g})", uniform->label, human_bytes(uniform->bytes),
                        uniform->error);
  }
  return line;
}

}  // namespace mezzotint::cli
