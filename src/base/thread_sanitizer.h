// Tells the thread sanitizer what oneTBB orders: its library is not instrumented, so the hand-over
// of work to a thread and back would look like a race. Files that include TBB's task templates are
// compiled without instrumentation (cmake/compile_flags.cmake) and name their edges with these.
#pragma once

#ifdef MZ_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace mezzotint {

// Everything before release_edge(x) in one thread happens before what follows acquire_edge(x) in
// another.
inline void release_edge([[maybe_unused]] const void* address) {
#ifdef MZ_THREAD_SANITIZER
  __tsan_release(const_cast<void*>(address));
#endif
}

inline void acquire_edge([[maybe_unused]] const void* address) {
#ifdef MZ_THREAD_SANITIZER
  __tsan_acquire(const_cast<void*>(address));
#endif
}

}  // namespace mezzotint
