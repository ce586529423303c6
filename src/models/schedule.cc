// The schedule of sampler.h: configuration file and sigmas.

#include <cmath>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "models/json_file.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClassName = "FlowMatchEulerDiscreteScheduler";
constexpr const char* kFileName = "scheduler_config.json";

fs::path locate(const fs::path& path) {
  if (!fs::is_directory(path)) return path;
  const fs::path in_component = path / "scheduler" / kFileName;
  return fs::exists(in_component) ? in_component : path / kFileName;
}

[[noreturn]] void refuse(const JsonFile& json, const char* key, const std::string& expected,
                         const std::string& found) {
  throw Error(ErrorCode::kUnsupported, fmt::format("key '{}' of the scheduler", key),
              {.file = json.file(), .expected = expected, .found = found});
}

void refuse_when_on(const JsonFile& json, const char* key) {
  if (json.has(key) && json.boolean(key)) refuse(json, key, "false", "true");
}

void check_features(const JsonFile& json) {
  json.refuse_unknown_keys({"num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift",
                            "max_shift", "base_image_seq_len", "max_image_seq_len", "invert_sigmas",
                            "shift_terminal", "use_karras_sigmas", "use_exponential_sigmas",
                            "use_beta_sigmas", "time_shift_type", "stochastic_sampling"});
  for (const char* key : {"invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas",
                          "use_beta_sigmas", "stochastic_sampling"}) {
    refuse_when_on(json, key);
  }
  if (json.has("shift_terminal") && json.number("shift_terminal") != 0) {
    refuse(json, "shift_terminal", "null", fmt::format("{}", json.number("shift_terminal")));
  }
  if (json.has("time_shift_type") && json.string("time_shift_type") != "exponential") {
    refuse(json, "time_shift_type", "exponential", json.string("time_shift_type"));
  }
  if (json.has("_class_name") && json.string("_class_name") != kClassName) {
    refuse(json, "_class_name", kClassName, json.string("_class_name"));
  }
}

double positive(const JsonFile& json, const char* key) {
  const double value = json.number(key);
  if (!(value > 0)) json.fail(key, "a number above 0");
  return value;
}

float shifted(const SchedulerConfig& config, double mu, float sigma) {
  if (config.rule == ShiftRule::kDynamic) {
    const auto e = static_cast<float>(std::exp(mu));
    return e / (e + (1.0f / sigma - 1.0f));
  }
  const auto s = static_cast<float>(config.shift);
  return s * sigma / (1.0f + static_cast<float>(config.shift - 1.0) * sigma);
}

// mu(256) = 0.5, mu(1024) = 0.63, mu(4096) = 1.15 with the default constants.
double dynamic_mu(const SchedulerConfig& config, int64_t image_tokens) {
  const double slope = (config.max_shift - config.base_shift) /
                       static_cast<double>(config.max_image_seq_len - config.base_image_seq_len);
  return static_cast<double>(image_tokens) * slope +
         (config.base_shift - slope * static_cast<double>(config.base_image_seq_len));
}

}  // namespace

SchedulerConfig read_scheduler_config(const fs::path& path) {
  const JsonFile json = JsonFile::read(locate(path));
  check_features(json);
  SchedulerConfig config;
  config.shift = positive(json, "shift");
  config.rule = json.boolean("use_dynamic_shifting") ? ShiftRule::kDynamic : ShiftRule::kStatic;
  if (json.has("num_train_timesteps")) {
    config.num_train_timesteps = json.integer("num_train_timesteps", 1);
  }
  if (json.has("base_shift")) config.base_shift = json.number("base_shift");
  if (json.has("max_shift")) config.max_shift = json.number("max_shift");
  if (json.has("base_image_seq_len")) {
    config.base_image_seq_len = json.integer("base_image_seq_len", 1);
  }
  if (json.has("max_image_seq_len")) {
    config.max_image_seq_len = json.integer("max_image_seq_len", config.base_image_seq_len + 1);
  }
  return config;
}

// f32 throughout, as numpy computes it for diffusers; only linspace is in double.
Schedule make_schedule(const SchedulerConfig& config, int64_t steps, int64_t image_tokens) {
  if (steps < 1) {
    throw Error(ErrorCode::kUsage, "number of steps",
                {.expected = "at least 1", .found = fmt::format("{}", steps)});
  }
  const double mu = dynamic_mu(config, image_tokens);
  const double last = 1.0 / static_cast<double>(steps);
  const double gap = steps > 1 ? (last - 1.0) / static_cast<double>(steps - 1) : 0.0;
  Schedule schedule;
  for (int64_t i = 0; i < steps; ++i) {
    const bool at_end = i > 0 && i == steps - 1;
    const double even = at_end ? last : 1.0 + static_cast<double>(i) * gap;
    const float sigma = shifted(config, mu, static_cast<float>(even));
    schedule.sigmas.push_back(sigma);
    schedule.timesteps.push_back(sigma * static_cast<float>(config.num_train_timesteps));
  }
  schedule.sigmas.push_back(0.0f);
  return schedule;
}

}  // namespace mezzotint
