// The least PSNR that every form of the demo must reach: floors.json in the model's folder.
//
//   {"images": 16, "outlier_images": 16, "steps": 20, "seed": 0, "guidance": 4.5,
//    "floors": [{"algorithm": "W8A16", "plain": 47.4, "one_step": 55.1, "outlier": 39.2}]}
//
// in dB; outlier may lack. one_step is of the plain model after one step without guidance: there
// one wrong scale shows in every form, while in finished pictures four-bit forms hide it. A floor
// holds for the settings it was measured with, and for no others: they are the demo's defaults.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/comparison_report.h"

namespace mezzotint::cli {

struct DemoSettings {
  int64_t images = 0;
  int64_t outlier_images = 0;
  int64_t steps = 0;
  uint64_t seed = 0;
  double guidance = 1;
  bool operator==(const DemoSettings&) const = default;
};
std::string to_string(const DemoSettings& settings);  // "16 images, 20 steps, ..."

struct DemoFloor {
  std::string algorithm;
  double plain_db = 0;
  double one_step_db = 0;
  std::optional<double> outlier_db{};
};

struct DemoFloors {
  std::filesystem::path file;
  DemoSettings settings;
  std::vector<DemoFloor> floors;
};

// Nothing when the folder has no floors.json. Throws Error(kInput) on a malformed one.
std::optional<DemoFloors> read_demo_floors(const std::filesystem::path& folder);

struct FloorFinding {
  std::string line;  // "W4A16 plain: 27.1 dB is below its floor of 30.2 dB"
  bool is_failure = false;
};

// One finding for every PSNR below its floor, every floor of a form that did not run, and every
// form without a floor (no failure: the line says what to add).
std::vector<FloorFinding> check_floors(const DemoFloors& floors,
                                       const std::vector<FormReport>& forms);

}  // namespace mezzotint::cli
