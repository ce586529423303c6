#include "cli/interrupt.h"

#include <csignal>

#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

volatile std::sig_atomic_t interrupt_requested = 0;

extern "C" void on_signal(int signal) {
  interrupt_requested = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error with a name
}

void request_interrupt() noexcept { interrupt_requested = 1; }
void clear_interrupt() noexcept { interrupt_requested = 0; }
bool interrupted() noexcept { return interrupt_requested != 0; }

void throw_if_interrupted() {
  if (interrupted()) throw Error(ErrorCode::kInterrupted, "interrupted");
}

}  // namespace mezzotint::cli
