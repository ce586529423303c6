// Runs of collect that are killed, wherever that falls, full disks and folders that may not be
// written: the same command with --resume ends with the bytes of an undisturbed run, and nothing
// that was there is lost.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/tool_process.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::contains;
using testing::kNotAllowed;
using testing::run_and_kill;
using testing::run_and_kill_when;
using testing::run_tool;
using testing::ToolResult;

using Microseconds = std::chrono::microseconds;

class KilledCollect : public testing::TinyPipelineTest {
 protected:
  // Two prompts, long enough to be killed in the middle of each.
  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"collect",   model_, "-o",       path(out),
                                          "--steps",   "12",   "--tokens", "128",
                                          "--prompts", "2",    "--gram",   "*"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  std::string unfinished(const std::string& out) const {
    return path(out) + ".unfinished.safetensors";
  }

  // What an undisturbed run writes, and how long it takes.
  std::string whole() {
    const auto begun = std::chrono::steady_clock::now();
    const ToolResult result = run_tool(command("whole.safetensors"), path("err"));
    EXPECT_EQ(result.code, 0) << result.err;
    length_ =
        std::chrono::duration_cast<Microseconds>(std::chrono::steady_clock::now() - begun).count();
    return bytes_of(path("whole.safetensors"));
  }

  // Leaves what a run has after its first prompt.
  void cut_after_one_prompt(const std::string& out) {
    ASSERT_FALSE(run_and_kill_when(command(out), [&] { return fs::exists(unfinished(out)); }));
    ASSERT_FALSE(fs::exists(path(out)));
  }

  int64_t length_ = 0;  // microseconds
};

// Killed and killed again while it goes on, at times drawn from a fixed seed over the length of a
// whole run; then one that ends.
TEST_F(KilledCollect, AtRandomTimesGoesOnToTheSameBytes) {
  const std::string expected = whole();
  std::mt19937 random(11);
  int killed = 0;
  for (const std::string out : {"a.safetensors", "b.safetensors", "c.safetensors"}) {
    for (int attempt = 0; attempt < 3; ++attempt) {
      const Microseconds after(static_cast<int64_t>(random() % 1000) * length_ / 1000);
      if (run_and_kill(command(out, {"--resume"}), after)) break;
      ++killed;
    }
    if (!fs::exists(path(out))) {
      const ToolResult last = run_tool(command(out, {"--resume"}), path("err"));
      ASSERT_EQ(last.code, 0) << last.err;
    }
    EXPECT_TRUE(bytes_of(path(out)) == expected) << out;
    EXPECT_FALSE(fs::exists(unfinished(out))) << out;
  }
  EXPECT_GT(killed, 0);
}

TEST_F(KilledCollect, BetweenPromptsKeepsTheFirstOne) {
  const std::string expected = whole();
  cut_after_one_prompt("k.safetensors");
  const ToolResult again = run_tool(command("k.safetensors"), path("err"));
  EXPECT_EQ(again.code, 2);
  EXPECT_TRUE(contains(again.err, "--resume goes on with it"));
  ASSERT_EQ(run_tool(command("k.safetensors", {"--resume"}), path("err")).code, 0);
  EXPECT_TRUE(bytes_of(path("k.safetensors")) == expected);
}

TEST_F(KilledCollect, AFullDiskIsNamedAndNothingIsLost) {
  const std::string expected = whole();
  cut_after_one_prompt("f.safetensors");
  const std::string first_prompt = bytes_of(unfinished("f.safetensors"));
  const ToolResult full = run_tool(command("f.safetensors", {"--resume"}), path("err"), [] {
    const rlimit limit = {.rlim_cur = 10'000, .rlim_max = 10'000};
    return setrlimit(RLIMIT_FSIZE, &limit) == 0;
  });
  EXPECT_EQ(full.code, 7);
  EXPECT_TRUE(contains(full.err, "not enough space on the disk"));
  EXPECT_TRUE(contains(full.err, "f.safetensors"));
  EXPECT_FALSE(fs::exists(path("f.safetensors")));
  EXPECT_TRUE(bytes_of(unfinished("f.safetensors")) == first_prompt);
  ASSERT_EQ(run_tool(command("f.safetensors", {"--resume"}), path("err")).code, 0);
  EXPECT_TRUE(bytes_of(path("f.safetensors")) == expected);
}

// As a user whom the folder does not belong to; before the model runs.
TEST_F(KilledCollect, AFolderThatMayNotBeWrittenIsNamed) {
  fs::create_directory(path("locked"));
  fs::permissions(path("locked"), fs::perms{0555});
  fs::permissions(folder_.path(), fs::perms{0755});
  constexpr uid_t kNobody = 65534;
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) _exit(kNotAllowed);
    const fs::path weights = fs::path(model_) / "pixels.json";
    if (access(weights.c_str(), R_OK) != 0) _exit(kNotAllowed);  // a folder above is closed to it
    const testing::CliResult result = testing::run(command("locked/s.safetensors"));
    const bool named =
        contains(result.err, "no permission to write") && contains(result.err, path("locked"));
    _exit(result.code == 3 && named ? 0 : 1);
  }
  const int code = testing::exit_code_of(child);
  if (code == kNotAllowed) GTEST_SKIP() << "no other user can be tried here";
  EXPECT_EQ(code, 0);
  EXPECT_TRUE(fs::is_empty(path("locked")));
}

}  // namespace
}  // namespace mezzotint::cli
