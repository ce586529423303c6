#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "cli/interrupt.h"
#include "cli/run_cli.h"
#include "mezzotint/error.h"

namespace {

mezzotint::cli::Terminal terminal_of_this_process() {
  mezzotint::cli::Terminal terminal;
  terminal.out_is_tty = isatty(STDOUT_FILENO) == 1;
  terminal.err_is_tty = isatty(STDERR_FILENO) == 1;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.columns = size.ws_col;
  }
  return terminal;
}

}  // namespace

int main(int argc, char** argv) {
  mezzotint::cli::catch_interrupts();
  const int code = mezzotint::cli::run_cli(std::vector<std::string>(argv + 1, argv + argc),
                                           terminal_of_this_process(), std::cout, std::cerr);
  if (code != 0 || std::cout.flush()) return code;
  std::cerr << "error: cannot write the result to standard output\n";
  return static_cast<int>(mezzotint::ErrorCode::kResources);
}
