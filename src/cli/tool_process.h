// For tests: the tool itself as a process, which can be killed and given limits.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace mezzotint::cli::testing {

// What the exit code of a process that a test starts is when the system would not let it begin.
inline constexpr int kNotAllowed = 99;

// Starts the tool, its stderr in `err_file`. `before` runs in the new process; false: it ends with
// kNotAllowed.
inline pid_t start_tool(const std::vector<std::string>& arguments, const std::string& err_file,
                        const std::function<bool()>& before = {}) {
  std::vector<char*> argv = {const_cast<char*>(MZ_CLI_PATH)};
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  (void)!freopen("/dev/null", "w", stdout);
  (void)!freopen(err_file.c_str(), "w", stderr);
  if (before && !before()) _exit(kNotAllowed);
  execv(MZ_CLI_PATH, argv.data());
  _exit(127);
}

// -1: a signal ended it.
inline int exit_code_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Every file in the folder and below it, by its name there.
inline std::map<std::string, std::string> files_below(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(folder).string()] = bytes_of(entry.path());
  }
  return files;
}

struct ToolResult {
  int code = 0;
  std::string err;
};

inline ToolResult run_tool(const std::vector<std::string>& arguments, const std::string& err_file,
                           const std::function<bool()>& before = {}) {
  const int code = exit_code_of(start_tool(arguments, err_file, before));
  return {code, bytes_of(err_file)};
}

// Kills the tool after a while; true: it had ended before.
inline bool run_and_kill(const std::vector<std::string>& arguments,
                         std::chrono::microseconds after) {
  const pid_t child = start_tool(arguments, "/dev/null");
  std::this_thread::sleep_for(after);
  int status = 0;
  if (waitpid(child, &status, WNOHANG) == child) return true;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return false;
}

// Kills the tool as soon as `there` says so; true: it had ended before.
inline bool run_and_kill_when(const std::vector<std::string>& arguments,
                              const std::function<bool()>& there) {
  const pid_t child = start_tool(arguments, "/dev/null");
  int status = 0;
  while (!there()) {
    if (waitpid(child, &status, WNOHANG) == child) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  if (waitpid(child, &status, WNOHANG) == child) return true;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return false;
}

}  // namespace mezzotint::cli::testing
