// --seed, --steps and --guidance, the same for every verb that runs a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/option_checks.h"

namespace mezzotint::cli {

struct SamplingOptions {
  uint64_t seed = 0;
  std::optional<int64_t> steps;   // else the verb's
  std::optional<float> guidance;  // likewise
};

inline void add_sampling(CLI::App& app, SamplingOptions& options, const std::string& seed_help,
                         const std::string& otherwise = "the model's") {
  app.add_option("--seed", options.seed, seed_help)->type_name("N")->check(any_seed());
  app.add_option("--steps", options.steps, "denoising steps; default: " + otherwise)
      ->type_name("N")
      ->check(count_between(1, 10000));
  app.add_option("--guidance", options.guidance, "guidance scale; default: " + otherwise)
      ->type_name("G")
      ->check(number_between(0, 100));
}

}  // namespace mezzotint::cli
