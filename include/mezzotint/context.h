// What a call runs with: threads, device, scratch memory, timestep, log and observer. It is passed
// explicitly; the library has no global state.
//
//   ExecContext ctx({.threads = 2});
//   linear.run(x, y, ctx);
//
// One ExecContext may serve several threads at once; `step` is copied with the context:
//   ctx.at_step(7)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "mezzotint/export.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

enum class LogLevel : uint8_t { kError, kWarn, kInfo, kDebug, kTrace };

// Where messages go. The default prints warnings and errors to stderr.
struct Log {
  LogLevel level = LogLevel::kWarn;
  std::function<void(LogLevel, std::string_view)> sink{};  // empty: stderr
};

// Observes the inputs of linears while a model runs (statistics, tests).
// `name` is the dotted name of the linear, or of the group when several share the input.
struct Tap {
  std::function<void(std::string_view name, const ConstMatrix& x, int step)> on_linear_input{};
};

struct ExecOptions {
  int threads = 0;  // 0: MEZZOTINT_NUM_THREADS if set, else the processors this process may use
  Device device{};
  void* stream = nullptr;
  Log log{};
  const Tap* tap = nullptr;  // not owned
};

class Workspace;    // scratch memory, reused between calls; thread-safe
class ThreadArena;  // the threads that parallel_for uses

class MZ_API ExecContext {
 public:
  explicit ExecContext(const ExecOptions& options = {});

  int threads() const noexcept { return threads_; }
  Device device() const noexcept { return options_->device; }
  void* stream() const noexcept { return options_->stream; }
  const Log& log() const noexcept { return options_->log; }
  const Tap* tap() const noexcept { return tap_; }
  int step() const noexcept { return step_; }  // index of the denoising step; -1: not set

  ExecContext at_step(int step) const;     // same threads and memory, another step
  ExecContext with_tap(const Tap*) const;  // same, with another observer

  Workspace& workspace() const noexcept { return *workspace_; }
  ThreadArena& arena() const noexcept { return *arena_; }

 private:
  std::shared_ptr<const ExecOptions> options_;
  std::shared_ptr<Workspace> workspace_;
  std::shared_ptr<ThreadArena> arena_;
  const Tap* tap_ = nullptr;
  int threads_ = 1;
  int step_ = -1;
};

}  // namespace mezzotint
