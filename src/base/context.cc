#include "mezzotint/context.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <thread>

#include "base/env.h"
#include "base/thread_arena.h"
#include "base/workspace.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int kMaxThreads = 4096;

// The processors this process may run on (taskset, cgroup cpusets), not all of the machine.
int processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int choose_threads(int asked) {
  if (asked < 0 || asked > kMaxThreads) {
    throw Error(ErrorCode::kUsage, "the number of threads is out of range",
                {.expected = "0 (automatic) to " + std::to_string(kMaxThreads),
                 .found = std::to_string(asked)});
  }
  if (asked > 0) return asked;
  return std::min(env_threads().value_or(processors()), kMaxThreads);
}

}  // namespace

ExecContext::ExecContext(const ExecOptions& options)
    : options_(std::make_shared<const ExecOptions>(options)),
      workspace_(std::make_shared<Workspace>()),
      tap_(options.tap),
      threads_(choose_threads(options.threads)) {
  arena_ = std::make_shared<ThreadArena>(threads_);
}

ExecContext ExecContext::at_step(int step) const {
  ExecContext copy = *this;
  copy.step_ = step;
  return copy;
}

ExecContext ExecContext::with_tap(const Tap* tap) const {
  ExecContext copy = *this;
  copy.tap_ = tap;
  return copy;
}

}  // namespace mezzotint
