#include "cli/comparison_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/layer_summary.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

std::string of_images(int64_t count, size_t images) {
  return count < 0 ? "-" : fmt::format("{} of {}", count, images);
}

std::string psnr_text(double psnr_db) {
  return std::isinf(psnr_db) ? "equal" : fmt::format("{:.1f}", psnr_db);
}

bool has_outliers(const ComparisonReport& report) {
  return std::ranges::any_of(report.forms,
                             [](const FormReport& f) { return f.outlier.has_value(); });
}

std::vector<std::string> quality_cells(const ComparisonReport& report, const FormReport& form,
                                       bool is_reference) {
  std::vector<std::string> cells;
  if (is_reference) {
    cells = {report.reference_repeats ? "equal" : "-", report.reference_repeats ? "1.0000" : "-"};
    if (has_outliers(report)) cells.insert(cells.end(), {"-", "-"});
    return cells;
  }
  cells = {psnr_text(form.psnr_db), fmt::format("{:.4f}", form.ssim)};
  if (!has_outliers(report)) return cells;
  cells.push_back(form.outlier ? psnr_text(form.outlier->psnr_db) : "-");
  cells.push_back(form.outlier ? fmt::format("{:.4f}", form.outlier->ssim) : "-");
  return cells;
}

std::vector<std::string> table_row(const ComparisonReport& report, const FormReport& form,
                                   bool is_reference) {
  std::vector<std::string> row = {
      form.label, human_bytes(form.file_bytes), human_bytes(form.resident_bytes),
      fmt::format("{:.3f}", form.step_seconds),
      is_reference ? "1.00x" : fmt::format("{:.2f}x", speedup(report, form))};
  for (std::string& cell : quality_cells(report, form, is_reference))
    row.push_back(std::move(cell));
  row.push_back(of_images(form.recognised, form.images.size()));
  row.push_back(of_images(form.colors_right, form.images.size()));
  return row;
}

nlohmann::json form_json(const FormReport& form) {
  nlohmann::json entry = {{"algorithm", form.label},
                          {"source", form.source},
                          {"file_bytes", form.file_bytes},
                          {"resident_bytes", form.resident_bytes},
                          {"seconds_per_step", form.step_seconds},
                          {"images", form.images.size()},
                          {"layers", report_json(form.layers)}};
  if (form.recognised >= 0) entry["recognised"] = form.recognised;
  if (form.colors_right >= 0) entry["colors_right"] = form.colors_right;
  return entry;
}

// JSON has no infinity: equal images have no PSNR.
nlohmann::json psnr_json(double psnr_db) {
  return std::isfinite(psnr_db) ? nlohmann::json(psnr_db) : nullptr;
}

nlohmann::json quantized_json(const ComparisonReport& report, const FormReport& form) {
  nlohmann::json entry = form_json(form);
  entry["speedup"] = speedup(report, form);
  entry["ssim"] = form.ssim;
  entry["identical"] = std::isinf(form.psnr_db);
  entry["psnr_db"] = psnr_json(form.psnr_db);
  if (form.one_step_psnr_db) entry["one_step_psnr_db"] = psnr_json(*form.one_step_psnr_db);
  if (form.outlier) {
    entry["outlier"] = {{"psnr_db", psnr_json(form.outlier->psnr_db)},
                        {"ssim", form.outlier->ssim}};
  }
  return entry;
}

const FormReport* fastest_form(const ComparisonReport& report) {
  const FormReport* best = nullptr;
  for (const FormReport& form : report.forms) {
    if (best == nullptr || form.step_seconds < best->step_seconds) best = &form;
  }
  return best;
}

nlohmann::json texts_json(const NamedTexts& texts) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [name, value] : texts) object[name] = value;
  return object;
}

}  // namespace

double speedup(const ComparisonReport& report, const FormReport& form) {
  return form.step_seconds > 0 ? report.reference.step_seconds / form.step_seconds : 0.0;
}

std::string verdict(const ComparisonReport& report) {
  const FormReport* best = fastest_form(report);
  if (best == nullptr) return "no quantized form to compare with";
  const double ratio = speedup(report, *best);
  const std::string speed = ratio >= 1 ? fmt::format("{:.2f}x faster than float", ratio)
                                       : fmt::format("{:.2f}x slower than float", 1 / ratio);
  const double memory = 100.0 * static_cast<double>(best->resident_bytes) /
                        static_cast<double>(std::max<int64_t>(report.reference.resident_bytes, 1));
  const std::string quality =
      std::isinf(best->psnr_db)
          ? "with identical images"
          : fmt::format("at {:.1f} dB PSNR and {:.4f} SSIM", best->psnr_db, best->ssim);
  return fmt::format("{} runs {} in {:.0f} % of its weight memory, {}.", best->label, speed, memory,
                     quality);
}

TextTable comparison_table(const ComparisonReport& report) {
  TextTable table{{{"algorithm"},
                   {"on disk", Align::kRight},
                   {"resident", Align::kRight},
                   {"s per step", Align::kRight},
                   {"speed-up", Align::kRight},
                   {"PSNR dB", Align::kRight},
                   {"SSIM", Align::kRight}},
                  {}};
  if (has_outliers(report)) {
    table.columns.push_back({"outlier dB", Align::kRight});
    table.columns.push_back({"outlier SSIM", Align::kRight});
  }
  table.columns.push_back({"recognised", Align::kRight});
  table.columns.push_back({"colours right", Align::kRight});
  table.rows.push_back(table_row(report, report.reference, true));
  for (const FormReport& form : report.forms) table.rows.push_back(table_row(report, form, false));
  return table;
}

nlohmann::json comparison_json(const ComparisonReport& report) {
  nlohmann::json document = {{"title", report.title},
                             {"verdict", verdict(report)},
                             {"command", report.command},
                             {"prompts", report.prompts},
                             {"settings", texts_json(report.settings)},
                             {"environment", texts_json(report.environment)},
                             {"notes", report.notes},
                             {"float", form_json(report.reference)},
                             {"forms", nlohmann::json::array()}};
  for (const FormReport& form : report.forms) {
    document["forms"].push_back(quantized_json(report, form));
  }
  return document;
}

}  // namespace mezzotint::cli
