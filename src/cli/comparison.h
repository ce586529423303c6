// Runs a float model and its quantized forms on the same prompts and noise.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/comparison_report.h"
#include "cli/pipeline.h"
#include "cli/session.h"
#include "mezzotint/quantize.h"

namespace mezzotint::cli {

struct FormSource {
  std::string label;
  std::filesystem::path folder;  // quantized folder or descriptor
  Report exported{};             // of the export, with SQNR; empty: what loading reports
};

struct ComparisonSetup {
  std::string title;
  std::filesystem::path model;
  std::vector<FormSource> forms;
  ImageRequest request;
  std::string activity = "generating";  // what the progress shows
  QuantizeOptions loading{};            // of the forms
  std::filesystem::path statistics{};   // of the model, for errors of outputs; or empty
};

// Loads one form at a time. Progress goes through the session.
ComparisonReport run_comparison(const ComparisonSetup& setup, const Pipeline& pipeline,
                                Session& session);

// The forms of `setup` alone, held against the images of `reference`.
std::vector<FormReport> run_forms(const ComparisonSetup& setup, const Pipeline& pipeline,
                                  const FormReport& reference, Session& session);

// The float images, the forms' and the differences, one row each.
void write_sheet(const std::filesystem::path& file, const ComparisonReport& report);

// The first `count` prompts of the pipeline; throws Error(kUsage) when there are fewer.
std::vector<int64_t> first_prompts(const Pipeline& pipeline, int64_t count);

}  // namespace mezzotint::cli
