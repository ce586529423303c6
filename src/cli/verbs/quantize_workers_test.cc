// quantize as several processes, started as mpirun would and by mpirun itself.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/cli_testing.h"
#include "cli/tool_process.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::contains;
using testing::files_below;
using testing::run;

class Workers : public testing::SmallModelTest {
 protected:
  std::vector<std::string> command(const std::string& out) const {
    return {"quantize", model_, "-o", path(out), "--algo", "w8a8_dynamic", "--preset", "none"};
  }
  std::map<std::string, std::string> alone() const {
    EXPECT_EQ(run(command("alone")).code, 0);
    return files_below(path("alone"));
  }
};

TEST_F(Workers, FourProcessesWriteTheBytesOfOne) {
  std::vector<pid_t> processes;
  for (const char* rank : {"0", "1", "2", "3"}) {
    const auto as_mpirun = [rank] {
      return setenv("PMI_RANK", rank, 1) == 0 && setenv("PMI_SIZE", "4", 1) == 0;
    };
    processes.push_back(
        testing::start_tool(command("four"), path(std::string("err") + rank), as_mpirun));
  }
  for (size_t rank = 0; rank < processes.size(); ++rank) {
    EXPECT_EQ(testing::exit_code_of(processes[rank]), 0)
        << testing::bytes_of(path("err" + std::to_string(rank)));
  }
  EXPECT_TRUE(files_below(path("four")) == alone());
}

TEST_F(Workers, RankAndWorldSizeNameTheProcess) {
  std::vector<std::string> second = command("two");
  second.insert(second.end(), {"--rank", "1", "--world-size", "2"});
  ASSERT_EQ(run(second).code, 0);
  EXPECT_TRUE(fs::exists(path("two/.partial.parts/1-of-2/part.safetensors")));
  std::vector<std::string> first = command("two");
  first.insert(first.end(), {"--rank", "0", "--world-size", "2"});
  ASSERT_EQ(run(first).code, 0);
  EXPECT_TRUE(files_below(path("two")) == alone());
  std::vector<std::string> outside = command("three");
  outside.insert(outside.end(), {"--rank", "2", "--world-size", "2"});
  EXPECT_TRUE(contains(run(outside).err, "expected --rank 0 to 1, got 2"));
  std::vector<std::string> nobody = command("three");
  nobody.insert(nobody.end(), {"--world-size", "2"});
  EXPECT_EQ(run(nobody).code, 2);
}

TEST_F(Workers, MpirunGivesTheBytesOfOne) {
  if (std::system("mpirun --version > /dev/null 2>&1") != 0) {
    const char* ci = std::getenv("CI");
    ASSERT_FALSE(ci != nullptr && std::string(ci) == "true") << "mpirun is missing";
    GTEST_SKIP() << "no mpirun: ./x setup mpi (Debian: openmpi-bin)";
  }
  const std::string line =
      "mpirun --allow-run-as-root --oversubscribe -n 4 " MZ_CLI_PATH " quantize '" + model_ +
      "' -o '" + path("mpi") + "' --algo w8a8_dynamic --preset none > '" + path("out") + "' 2>&1";
  ASSERT_EQ(std::system(line.c_str()), 0) << testing::bytes_of(path("out"));
  EXPECT_TRUE(files_below(path("mpi")) == alone());
}

}  // namespace
}  // namespace mezzotint::cli
