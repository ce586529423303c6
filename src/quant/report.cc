#include "mezzotint/report.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace mezzotint {
namespace {

constexpr double kGigabyte = 1e9;
constexpr double kMegabyte = 1e6;

std::string bytes_text(int64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (size >= kGigabyte) return fmt::format("{:.1f} GB", size / kGigabyte);
  return fmt::format("{:.1f} MB", size / kMegabyte);
}

nlohmann::ordered_json row_json(const LayerReport& row) {
  nlohmann::ordered_json json = {{"name", row.name},
                                 {"algorithm", row.algorithm},
                                 {"out_features", row.out_features},
                                 {"in_features", row.in_features},
                                 {"bytes_before", row.bytes_before},
                                 {"bytes_after", row.bytes_after}};
  if (!row.reason.empty()) json["reason"] = row.reason;
  if (row.weight_sqnr_db != 0) {
    json["weight_sqnr_db"] = row.weight_sqnr_db;
    json["weight_cosine"] = row.weight_cosine;
    json["zero_share"] = row.zero_share;
    json["clip_share"] = row.clip_share;
    json["outlier_ratio"] = row.outlier_ratio;
  }
  if (row.output_sqnr_db != 0) {
    json["output_sqnr_db"] = row.output_sqnr_db;
    json["output_cosine"] = row.output_cosine;
    json["step_errors"] = row.step_errors;
  }
  return json;
}

}  // namespace

int64_t Report::quantized() const {
  return std::ranges::count_if(layers, [](const LayerReport& row) { return row.reason.empty(); });
}

int64_t Report::kept() const { return static_cast<int64_t>(layers.size()) - quantized(); }

std::string summary(const Report& report) {
  return fmt::format("{} quantized, {} kept float, {} unmatched; {} -> {}", report.quantized(),
                     report.kept(), report.unmatched.size(), bytes_text(report.bytes_before),
                     bytes_text(report.bytes_after));
}

std::string to_json(const Report& report) {
  nlohmann::ordered_json json = {{"quantized", report.quantized()},
                                 {"kept", report.kept()},
                                 {"bytes_before", report.bytes_before},
                                 {"bytes_after", report.bytes_after},
                                 {"layers", nlohmann::ordered_json::array()},
                                 {"unmatched", report.unmatched},
                                 {"notes", report.notes}};
  if (report.memory_bytes > 0) {
    json["memory_bytes"] = report.memory_bytes;
    json["memory_layer"] = report.memory_layer;
  }
  if (report.estimated_seconds > 0) json["estimated_seconds"] = report.estimated_seconds;
  for (const LayerReport& row : report.layers) json["layers"].push_back(row_json(row));
  // Names come from files: bytes that are no UTF-8 are replaced, not thrown at.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mezzotint
