#include "cli/demo_floors.h"

#include <algorithm>
#include <cmath>
#include <system_error>

#include <fmt/format.h>

#include "cli/text.h"
#include "models/json_file.h"

namespace mezzotint::cli {
namespace {

// A floor is this far below what was measured: other processors round other layers. One step gives
// their differences no time to grow: they are below 0.1 dB there.
constexpr double kMarginDb = 3.0;
constexpr double kOneStepMarginDb = 1.5;

// One decimal, downwards.
double proposed_floor(double measured_db, double margin_db = kMarginDb) {
  return std::floor((measured_db - margin_db) * 10) / 10;
}

FloorFinding missing_floor(const FormReport& form, const DemoFloors& floors) {
  std::string entry =
      fmt::format(R"({{"algorithm": "{}", "plain": {:.1f}, "one_step": {:.1f})", form.label,
                  proposed_floor(form.psnr_db),
                  proposed_floor(form.one_step_psnr_db.value_or(0), kOneStepMarginDb));
  if (form.outlier) {
    entry += fmt::format(R"(, "outlier": {:.1f})", proposed_floor(form.outlier->psnr_db));
  }
  return {.line = fmt::format("{} has no floor; add to {}: {}}}", form.label, floors.file.string(),
                              entry)};
}

void check_one(const std::string& form, const char* variant, double measured_db,
               const std::optional<double>& floor_db, std::vector<FloorFinding>& findings) {
  if (!floor_db || measured_db >= *floor_db) return;  // NaN fails
  findings.push_back({.line = fmt::format("{} {}: {:.2f} dB is below its floor of {:.1f} dB", form,
                                          variant, measured_db, *floor_db),
                      .is_failure = true});
}

}  // namespace

std::string to_string(const DemoSettings& settings) {
  return fmt::format("{}, {} of the outlier variant, {}, seed {}, guidance {:g}",
                     plural(settings.images, "image"), settings.outlier_images,
                     plural(settings.steps, "step"), settings.seed, settings.guidance);
}

std::optional<DemoFloors> read_demo_floors(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "floors.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  const JsonFile json = JsonFile::read(file);
  json.refuse_unknown_keys({"images", "outlier_images", "steps", "seed", "guidance", "floors"});
  DemoFloors floors{.file = file,
                    .settings = {.images = json.integer("images", 1),
                                 .outlier_images = json.integer("outlier_images", 1),
                                 .steps = json.integer("steps", 1),
                                 .seed = static_cast<uint64_t>(json.integer("seed", 0)),
                                 .guidance = json.number("guidance")},
                    .floors = {}};
  for (const JsonFile& entry : json.objects("floors")) {
    entry.refuse_unknown_keys({"algorithm", "plain", "one_step", "outlier"});
    DemoFloor floor{.algorithm = entry.string("algorithm"),
                    .plain_db = entry.number("plain"),
                    .one_step_db = entry.number("one_step")};
    if (entry.has("outlier")) floor.outlier_db = entry.number("outlier");
    floors.floors.push_back(std::move(floor));
  }
  return floors;
}

std::vector<FloorFinding> check_floors(const DemoFloors& floors,
                                       const std::vector<FormReport>& forms) {
  std::vector<FloorFinding> findings;
  for (const FormReport& form : forms) {
    const auto floor = std::ranges::find(floors.floors, form.label, &DemoFloor::algorithm);
    if (floor == floors.floors.end()) {
      findings.push_back(missing_floor(form, floors));
      continue;
    }
    check_one(form.label, "plain", form.psnr_db, floor->plain_db, findings);
    if (form.one_step_psnr_db) {
      check_one(form.label, "one step", *form.one_step_psnr_db, floor->one_step_db, findings);
    }
    if (form.outlier) {
      check_one(form.label, "outlier", form.outlier->psnr_db, floor->outlier_db, findings);
    }
  }
  for (const DemoFloor& floor : floors.floors) {
    if (std::ranges::find(forms, floor.algorithm, &FormReport::label) != forms.end()) continue;
    findings.push_back({.line = fmt::format("{} has a floor in {}, but did not run",
                                            floor.algorithm, floors.file.string()),
                        .is_failure = true});
  }
  return findings;
}

}  // namespace mezzotint::cli
