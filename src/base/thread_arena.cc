#include "base/thread_arena.h"

#include <oneapi/tbb/info.h>

namespace mezzotint {

ThreadArena::ThreadArena(int threads) : arena_(threads) {
  if (threads > tbb::info::default_concurrency()) {
    more_workers_ = std::make_unique<tbb::global_control>(
        tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads));
  }
}

}  // namespace mezzotint
