// parallel_for over OpenMP instead of oneTBB: linked before the library's own, for measuring what
// docs/decisions weighs.
#include "base/parallel_for.h"

#include <algorithm>

namespace mezzotint {

void parallel_for(const ExecContext& ctx, int64_t n, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& fn) {
  const int64_t chunks = (n + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(ctx.threads(), chunks));
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    fn(chunk * grain, std::min(n, (chunk + 1) * grain));
  }
}

}  // namespace mezzotint
