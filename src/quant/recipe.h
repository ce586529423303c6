// Recipes: how a model is quantized, as a YAML file that can be kept, compared and edited.
//
//   mezzotint: 1
//   model: {preset: flux}
//   defaults: {algo: w4a16_gptq, group_size: 64, weight: {method: mse}, act: {method: mse}}
//   rules:                                  # first match wins
//     - {match: "blocks.[0-4].*", algo: w8a16, why: "sensitive"}
//     - {match: ["*.ff", "*.mod"], except: ["blocks.7.*"], algo: float}
//   exclude: ["*.norm*"]
//   attention: {algo: fp8_dynamic, rotate: hadamard, match: ["*"], exclude: ["blocks.0.*"]}
//   calibration: {stats: stats.safetensors, smooth: search}
//   timestep: {dynamic: "0.0..0.5", static: "0.5..1.0"}     # of a run, or "static 10-19"
//   output: {format: mindie, max_shard_size: 5GB}
//   gates: {min_sqnr_db: 18}
//
// The recipes of msmodelslim (apiversion: multimodal_sd_modelslim_v1) are read as they are, as far
// as they say what we can do (msmodelslim_recipe.h). An unknown key is an error.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/quantize.h"
#include "quant/step_shares.h"

namespace mezzotint {

struct Recipe {
  ExportOptions options{};
  std::optional<double> least_sqnr_db{};  // gates: of a layer's weights
  std::vector<StepShare> step_shares{};   // timestep: as parts of a run
  std::vector<std::string> notes{};       // parts that say nothing to an export
};

// Throws Error(kInput), naming file, line, key and the nearest ones, for YAML that cannot be read;
// Error(kUnsupported) for what we do not do. Paths in it are relative to the folder of `file`.
Recipe parse_recipe(const std::filesystem::path& file, std::string_view text);
Recipe read_recipe(const std::filesystem::path& file);

// What read_recipe() reads: the preset, group size, calibration and rules of `options`. `file` is
// where it is going to stand, `title` a comment.
std::string recipe_text(const std::filesystem::path& file, const ExportOptions& options,
                        std::string_view title);

}  // namespace mezzotint
