// torch's threads, so that its operations and ours take turns on one pool: two pools wait for each
// other's spinning threads (docs/decisions/0006-threads-beside-torch.md).
#pragma once

#include "base/thread_arena.h"

namespace mezzotint {

// Empty in a process without torch, or when torch was built without OpenMP.
ThreadTeam torch_threads();

}  // namespace mezzotint
