// Splits [0, n) over the threads of a context.
//
//   parallel_for(ctx, rows, 64, [&](int64_t begin, int64_t end) { ... });
//
// The chunks are [0,grain), [grain,2 grain), ...: they depend on n and grain only, never on the
// number of threads, so results that depend on chunking are the same for any thread count.
// An exception thrown by fn reaches the caller.
#pragma once

#include <cstdint>
#include <functional>

#include "mezzotint/context.h"

namespace mezzotint {

void parallel_for(const ExecContext& ctx, int64_t n, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& fn);

}  // namespace mezzotint
