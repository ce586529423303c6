#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux_testing.h"
#include "models/sampler.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

void expect_near(const std::vector<float>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
}

// The values of diffusers' scheduler with the pipeline's sigmas.
TEST(Schedule, MatchesDiffusersWithAStaticShift) {
  expect_near(make_schedule({.shift = 1.0}, 4, 64).sigmas, {1, .75, .5, .25, 0});
  expect_near(make_schedule({.shift = 3.0}, 4, 64).sigmas, {1, .9, .75, .5, 0});
}

TEST(Schedule, MatchesDiffusersWithADynamicShift) {
  const SchedulerConfig dynamic{.rule = ShiftRule::kDynamic};
  expect_near(make_schedule(dynamic, 4, 4096).sigmas, {1, .904531, .759511, .512844, 0});
  expect_near(make_schedule(dynamic, 4, 256).sigmas, {1, .831824, .622459, .354661, 0});
}

TEST(Schedule, ScalesTimesteps) {
  const Schedule schedule = make_schedule({.shift = 3.0}, 4, 64);
  expect_near(schedule.timesteps, {1000, 900, 750, 500});
}

TEST(Schedule, GoesInOneStepFromOneToZero) {
  expect_near(make_schedule({}, 1, 64).sigmas, {1, 0});
  EXPECT_THROW(make_schedule({}, 0, 64), Error);
}

fs::path write_config(const std::string& text) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("scheduler"));
  testing::write_text(folder / "scheduler_config.json", text);
  return folder;
}

std::string message_of(const std::string& text) {
  try {
    read_scheduler_config(write_config(text));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SchedulerConfig, ReadsTheDemoAndAFluxDevFile) {
  const SchedulerConfig demo = read_scheduler_config(fs::path(MZ_SOURCE_DIR) / "demo");
  EXPECT_EQ(demo.rule, ShiftRule::kStatic);
  EXPECT_EQ(demo.shift, 1.0);
  const SchedulerConfig dynamic = read_scheduler_config(write_config(R"({
    "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.30.0",
    "base_image_seq_len": 128, "base_shift": 0.25, "max_image_seq_len": 2048, "max_shift": 1.25,
    "num_train_timesteps": 500, "shift": 3.0, "use_dynamic_shifting": true,
    "shift_terminal": null, "invert_sigmas": false, "time_shift_type": "exponential"})"));
  EXPECT_EQ(dynamic.rule, ShiftRule::kDynamic);
  EXPECT_EQ(dynamic.base_shift, 0.25);
  EXPECT_EQ(dynamic.max_shift, 1.25);
  EXPECT_EQ(dynamic.base_image_seq_len, 128);
  EXPECT_EQ(dynamic.max_image_seq_len, 2048);
  EXPECT_EQ(dynamic.num_train_timesteps, 500);
}

TEST(SchedulerConfig, NamesFileAndKeyOfAFault) {
  const std::pair<const char*, const char*> faults[] = {
      {R"({"use_dynamic_shifting": false})", "shift"},
      {R"({"shift": "one", "use_dynamic_shifting": false})", "shift"},
      {R"({"shift": 0, "use_dynamic_shifting": false})", "shift"},
      {R"({"shift": 1.0})", "use_dynamic_shifting"},
      {R"({"shift": 1.0, "use_dynamic_shifting": false, "use_karras_sigmas": true})",
       "use_karras_sigmas"},
      {R"({"shift": 1.0, "use_dynamic_shifting": false, "shift_terminal": 0.02})",
       "shift_terminal"},
      {R"({"shift": 1.0, "use_dynamic_shifting": false, "sigma_data": 0.5})", "sigma_data"},
      {R"({"_class_name": "DDIMScheduler"})", "_class_name"},
  };
  for (const auto& [text, key] : faults) {
    const std::string message = message_of(text);
    EXPECT_NE(message.find(key), message.npos) << text << " -> " << message;
    EXPECT_NE(message.find("scheduler_config.json"), message.npos) << message;
  }
}

}  // namespace
}  // namespace mezzotint
