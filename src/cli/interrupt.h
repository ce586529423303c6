// SIGINT and SIGTERM as an Error(kInterrupted) at the next safe point.
//
// A signal handler can reach only a global, so this is the one place with mutable global state. A
// second signal ends the process at once.
#pragma once

namespace mezzotint::cli {

void catch_interrupts();            // main() only
void request_interrupt() noexcept;  // what the handler does; tests call it
void clear_interrupt() noexcept;
bool interrupted() noexcept;
void throw_if_interrupted();

}  // namespace mezzotint::cli
