// The program as a process: what run_cli() cannot see from inside.
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

namespace mezzotint::cli {
namespace {

int exit_code_of(const std::string& arguments) {
  const std::string command = std::string("'") + MZ_CLI_PATH + "' " + arguments + " 2>/dev/null";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(CliProcess, ResultsThatCannotBeWrittenAreAnError) {
  EXPECT_EQ(exit_code_of("doctor > /dev/null"), 0);
  EXPECT_EQ(exit_code_of("doctor > /dev/full"), 7);
  EXPECT_EQ(exit_code_of("doctor --json > /dev/full"), 7);
}

TEST(CliProcess, TheExitCodeOfAnErrorWins) {
  EXPECT_EQ(exit_code_of("inspect /nonexistent --json > /dev/full"), 3);
}

}  // namespace
}  // namespace mezzotint::cli
