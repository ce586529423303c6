// What was done to every layer. Nothing is left out: a layer is quantized, kept float with a
// reason, or listed as unmatched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mezzotint/export.h"

namespace mezzotint {

struct LayerReport {
  std::string name{};
  std::string algorithm{};   // "W8A8_DYNAMIC"; "FLOAT" when kept
  std::string reason{};      // why it was kept float; "" when quantized
  int64_t out_features = 0;  // of attentions, both are head_dim
  int64_t in_features = 0;
  int64_t bytes_before = 0;   // in the source file
  int64_t bytes_after = 0;    // written (export) or resident (load)
  double weight_sqnr_db = 0;  // 10 log10(sum w^2 / sum (w - w')^2); 0 when unknown, as all below
  double weight_cosine = 0;   // of w and w' as vectors
  double zero_share = 0;      // of the weights that became zero
  double clip_share = 0;      // of the weights beyond the ends of their scale's grid
  double outlier_ratio = 0;   // max |w| over the root mean square of w
  // Of the layer's outputs on the sample of its input (ExportOptions::output_errors).
  double output_sqnr_db = 0;
  double output_cosine = 0;
  std::vector<double> step_errors{};  // ||y - y'||^2 / ||y||^2 per denoising step; -1: not seen
};

struct Report {
  std::vector<LayerReport> layers{};
  std::vector<std::string> unmatched{};  // descriptor entries no layer answers to, with the reason
  std::vector<std::string> notes{};      // other things done differently than asked
  int64_t bytes_before = 0;              // of the whole model
  int64_t bytes_after = 0;
  int64_t memory_bytes = 0;      // of an export: resident at most, estimated from the plan
  std::string memory_layer{};    // that needs it
  double estimated_seconds = 0;  // of an export, without reading and writing (estimate_time)

  MZ_API int64_t quantized() const;
  MZ_API int64_t kept() const;
};

// "412 quantized, 38 kept float, 0 unmatched; 22.1 GB -> 11.3 GB"
MZ_API std::string summary(const Report& report);
MZ_API std::string to_json(const Report& report);

}  // namespace mezzotint
