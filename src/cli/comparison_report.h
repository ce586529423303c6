// Everything a comparison report shows, as plain data: what compare and demo measure, and what
// report.html, report.json and the printed table are made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/text.h"
#include "cli/text_table.h"
#include "mezzotint/report.h"
#include "models/image.h"

namespace mezzotint::cli {

// Of the same form of the model with outlier channels (models/outlier_variant.h), against the float
// images.
struct OutlierQuality {
  double psnr_db = 0;
  double ssim = 1;
};

// One way to run the model: float, or a quantized form.
struct FormReport {
  std::string label;           // "float", "W8A8_DYNAMIC"
  std::string source;          // folder it was read from
  int64_t file_bytes = 0;      // weights on disk
  int64_t resident_bytes = 0;  // packed weights, scales and biases of the linears
  double step_seconds = 0;     // median over the steps
  double psnr_db = 0;          // against the float images; infinity: equal
  double ssim = 1;
  std::optional<OutlierQuality> outlier{};
  std::optional<double> one_step_psnr_db{};  // after one step without guidance
  int64_t recognised = -1;  // images whose class the classifier finds; -1: no classifier
  int64_t colors_right = -1;
  std::vector<Image> images;          // RGB, one per prompt
  std::vector<Image> differences;     // |image - float| x 8; empty for float
  std::vector<std::string> captions;  // below an image: "sneaker"; may be empty
  Report layers;
};

struct ComparisonReport {
  std::string title;
  std::string command;               // reproduces it
  std::vector<std::string> prompts;  // text, one per image
  FormReport reference;              // the float model
  bool reference_repeats = false;    // it was shown to give the same bits again
  std::vector<FormReport> forms;
  NamedTexts settings;     // steps, seed, guidance, ...
  NamedTexts environment;  // doctor's facts
  std::vector<std::string> notes;
};

double speedup(const ComparisonReport& report, const FormReport& form);

// "W8A8_DYNAMIC runs 1.9x faster in 51 % of the memory, at 41.2 dB PSNR": one sentence.
std::string verdict(const ComparisonReport& report);

TextTable comparison_table(const ComparisonReport& report);
nlohmann::json comparison_json(const ComparisonReport& report);  // without images

}  // namespace mezzotint::cli
