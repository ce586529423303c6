// Runs of quantize that are killed, wherever that falls, and full disks: the same command with
// --resume ends with the bytes of an undisturbed run, and nothing that was there is lost.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/tool_process.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::files_below;
using testing::kNotAllowed;
using testing::run;
using testing::run_and_kill;
using testing::run_tool;
using testing::ToolResult;

using Microseconds = std::chrono::microseconds;

// 16 linears of 256 x 512: long enough to be killed in the middle.
class KilledQuantize : public testing::VerbTest {
 protected:
  KilledQuantize() {
    model_ = path("model.safetensors");
    std::vector<TensorPlan> plan;
    for (int i = 0; i < 16; ++i) {
      plan.push_back({"blocks." + std::to_string(i) + ".ff.weight", DType::kBF16, {256, 512}});
    }
    plan.push_back({"norm.weight", DType::kF32, {512}});
    std::mt19937_64 random(7);
    Writer writer(model_, plan);
    for (const TensorPlan& t : plan) {
      writer.put(t.name, normal_tensor(t.dtype, t.shape, random));
    }
    writer.finish();
  }

  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "quantize", model_,  "-o",     path(out),
        "--algo",   "w8a16", "--rule", "blocks.?.ff=w4a4_mxfp4_svd",
        "--preset", "none"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

// Three times a run that is killed and killed again while it goes on, at times drawn from a fixed
// seed over the length of a whole run; then one that ends.
TEST_F(KilledQuantize, AtRandomTimesGoesOnToTheSameBytes) {
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(run_tool(command("whole"), path("err")).code, 0) << testing::bytes_of(path("err"));
  const auto length =
      std::chrono::duration_cast<Microseconds>(std::chrono::steady_clock::now() - begun).count();
  const auto expected = files_below(path("whole"));
  std::mt19937 random(11);
  int killed = 0;
  for (const std::string out : {"a", "b", "c"}) {
    for (int attempt = 0; attempt < 3; ++attempt) {
      const Microseconds after(static_cast<int64_t>(random() % 1000) * length / 1000);
      if (run_and_kill(command(out, {"--resume"}), after)) break;
      ++killed;
    }
    const ToolResult last = run_tool(command(out, {"--resume"}), path("err"));
    const bool there = last.code == 2 && contains(last.err, "holds files already");
    ASSERT_TRUE(last.code == 0 || there) << last.err;
    EXPECT_TRUE(files_below(path(out)) == expected) << out;
  }
  EXPECT_GT(killed, 0);
}

// A file that may not grow to its size, as on a full disk.
bool limit_files_to(rlim_t bytes) {
  const rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
  return setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

TEST_F(KilledQuantize, ADiskWithoutRoomIsFoundFirstAndNothingIsLost) {
  const auto refuse = [&](const std::vector<std::string>& arguments) {
    const ToolResult full =
        run_tool(arguments, path("err"), [] { return limit_files_to(100'000); });
    EXPECT_EQ(full.code, 7);
    EXPECT_TRUE(contains(full.err, "not enough space on the disk"));
    EXPECT_TRUE(contains(full.err, "free some space or write elsewhere"));
  };
  refuse(command("out"));
  EXPECT_FALSE(fs::exists(path("out")));
  ASSERT_EQ(run_tool(command("out"), path("err")).code, 0);
  const auto before = files_below(path("out"));
  refuse(command("out", {"--force"}));
  EXPECT_TRUE(files_below(path("out")) == before) << "the old output stays";
}

// In a process with mounts of its own, a disk on which the weights fit and the descriptor does not:
// quantize, make room, go on, compare. 0: all as it should be.
int fill_a_disk(const std::vector<std::string>& first, const std::vector<std::string>& again,
                const std::string& disk, int64_t bytes, const std::string& err_file,
                const std::function<bool()>& same) {
  const pid_t child = fork();
  if (child != 0) return testing::exit_code_of(child);
  const auto mount_disk = [&](int64_t size, unsigned long flags) {
    return mount("none", disk.c_str(), "tmpfs", flags, ("size=" + std::to_string(size)).c_str()) ==
           0;
  };
  const bool own = unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
  if (!own || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      !mount_disk(bytes, 0)) {
    _exit(kNotAllowed);
  }
  const ToolResult full = run_tool(first, err_file);
  if (full.code != 7 || !contains(full.err, "not enough space on the disk")) _exit(1);
  if (!mount_disk(bytes * 4, MS_REMOUNT)) _exit(kNotAllowed);
  if (run_tool(again, err_file).code != 0) _exit(2);
  _exit(same() ? 0 : 3);
}

TEST_F(KilledQuantize, ADiskThatFillsUpOnTheWayIsGoneOnWith) {
  ASSERT_EQ(run_tool(command("whole"), path("err")).code, 0);
  const auto expected = files_below(path("whole"));
  // Room for the weights, the recipe (the descriptor and a few lines) and the journal.
  constexpr int64_t kPage = 4096;
  int64_t room = kPage;
  for (const auto& [name, bytes] : expected) {
    room += (static_cast<int64_t>(bytes.size()) + 500 + kPage - 1) / kPage * kPage;
  }
  fs::create_directory(path("disk"));
  const int result =
      fill_a_disk(command("disk/out"), command("disk/out", {"--resume"}), path("disk"), room,
                  path("err"), [&] { return files_below(path("disk/out")) == expected; });
  if (result == kNotAllowed) GTEST_SKIP() << "mounting a small disk is not allowed here";
  EXPECT_EQ(result, 0) << testing::bytes_of(path("err"));
}

// As a user whom the folder does not belong to.
TEST_F(KilledQuantize, AFolderThatMayNotBeWrittenIsNamed) {
  fs::create_directory(path("locked"));
  fs::permissions(path("locked"), fs::perms{0555});
  for (const fs::path& shown : {folder_.path(), fs::path(model_)}) {
    fs::permissions(shown, fs::perms{0755});
  }
  constexpr uid_t kNobody = 65534;
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) _exit(kNotAllowed);
    if (access(model_.c_str(), R_OK) != 0) _exit(kNotAllowed);  // a folder above is closed to it
    const testing::CliResult result = run(command("locked/out"));
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
