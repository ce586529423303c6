#include "base/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>

#include "base/check.h"
#include "base/thread_arena.h"
#include "base/thread_sanitizer.h"

namespace mezzotint {
namespace {

// Edges at the end of a scope: fn may leave it by an exception, which another thread destroys.
struct ReleaseAtEnd {
  const char* edge;
  ~ReleaseAtEnd() { release_edge(edge); }
};

struct AcquireAtEnd {
  const char* edge;
  ~AcquireAtEnd() { acquire_edge(edge); }
};

// Chunks go to whoever comes first, one at a time.
void run_on_team(const ThreadTeam& team, int threads, int64_t chunks,
                 const std::function<void(int64_t first, int64_t last)>& run_chunks) {
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr thrown;  // the first one
  team(threads, [&] {
    try {
      for (int64_t chunk = next++; chunk < chunks; chunk = next++) run_chunks(chunk, chunk + 1);
    } catch (...) {
      next = chunks;  // nobody begins another
      const std::lock_guard lock(mutex);
      if (!thrown) thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace

void parallel_for(const ExecContext& ctx, int64_t n, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& fn) {
  MZ_CHECK(n >= 0);
  MZ_CHECK(grain > 0);
  const int64_t chunks = n / grain + (n % grain != 0 ? 1 : 0);
  const auto run_chunks = [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = chunk * grain;
      fn(begin, begin + std::min(grain, n - begin));
    }
  };
  if (chunks <= 1 || ctx.threads() == 1) {
    run_chunks(0, chunks);
    return;
  }
  if (const ThreadTeam& team = ctx.arena().team()) {
    const auto threads = static_cast<int>(std::min<int64_t>(ctx.threads(), chunks));
    run_on_team(team, threads, chunks, run_chunks);
    return;
  }
  const char start = 0, end = 0;  // addresses that name the edges
  release_edge(&start);
  const AcquireAtEnd after_all{&end};
  ctx.arena().arena().execute([&] {
    // Isolated: a thread that waits for the chunks of an inner call takes no chunk of an outer one,
    // so what fn holds (a lock, scratch, the stack) cannot be entered twice.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, chunks),
          [&](const tbb::blocked_range<int64_t>& range) {
            acquire_edge(&start);
            const ReleaseAtEnd after_chunks{&end};
            run_chunks(range.begin(), range.end());
          },
          tbb::simple_partitioner());  // the grain is the caller's, to the chunk
    });
  });
}

}  // namespace mezzotint
