#include "cli/comparison_report.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/layer_summary.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

std::string of_images(int64_t count, size_t images) {
  return count < 0 ? "-" : fmt::format("{} of {}", count, images);
}

std::string psnr_text(const FormReport& form) {
  return std::isinf(form.psnr_db) ? "equal" : fmt::format("{:.1f}", form.psnr_db);
}

std::vector<std::string> table_row(const ComparisonReport& report, const FormReport& form,
                                   bool is_reference) {
  return {form.label,
          human_bytes(form.file_bytes),
          human_bytes(form.resident_bytes),
          fmt::format("{:.3f}", form.step_seconds),
          is_reference ? "1.00x" : fmt::format("{:.2f}x", speedup(report, form)),
          is_reference ? "-" : psnr_text(form),
          is_reference ? "-" : fmt::format("{:.4f}", form.ssim),
          of_images(form.recognised, form.images.size()),
          of_images(form.colors_right, form.images.size())};
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

nlohmann::json quantized_json(const ComparisonReport& report, const FormReport& form) {
  nlohmann::json entry = form_json(form);
  entry["speedup"] = speedup(report, form);
  entry["ssim"] = form.ssim;
  // JSON has no infinity: equal images have no PSNR.
  entry["identical"] = std::isinf(form.psnr_db);
  entry["psnr_db"] = std::isfinite(form.psnr_db) ? nlohmann::json(form.psnr_db) : nullptr;
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
                   {"SSIM", Align::kRight},
                   {"recognised", Align::kRight},
                   {"colours right", Align::kRight}},
                  {}};
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
