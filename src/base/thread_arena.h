// The threads of a context: a oneTBB arena of a fixed width.
#pragma once

#include <memory>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

namespace mezzotint {

class ThreadArena {
 public:
  explicit ThreadArena(int threads);

  tbb::task_arena& arena() noexcept { return arena_; }

 private:
  // oneTBB hands out at most as many workers as there are processors unless this asks for more.
  std::unique_ptr<tbb::global_control> more_workers_;
  tbb::task_arena arena_;
};

}  // namespace mezzotint
