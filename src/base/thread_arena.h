// The threads of a context: a oneTBB arena of a fixed width, or a team that somebody brought.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

namespace mezzotint {

// Runs `body` on up to `threads` threads at once, the caller among them, and returns when all have
// left it. `body` does not throw.
using ThreadTeam = std::function<void(int threads, const std::function<void()>& body)>;

class ThreadArena {
 public:
  explicit ThreadArena(int threads);

  // Before the first call that uses the context.
  void bring(ThreadTeam team) { team_ = std::move(team); }
  const ThreadTeam& team() const noexcept { return team_; }  // empty: the arena

  tbb::task_arena& arena() noexcept { return arena_; }

 private:
  // oneTBB hands out at most as many workers as there are processors unless this asks for more.
  std::unique_ptr<tbb::global_control> more_workers_;
  tbb::task_arena arena_;
  ThreadTeam team_;
};

}  // namespace mezzotint
