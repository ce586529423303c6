// Makes Debian's serial OpenBLAS (0.3.21) safe to call from several threads.
//
// Built without USE_LOCKING, its blas_memory_alloc looks for a free scratch buffer and marks it as
// used in two steps without a lock: two threads can get the same buffer, and their products are
// wrong, about once in ten thousand calls. The linker sends every call of the two functions here
// (--wrap in cmake/dependencies.cmake); memory_lock_test.cc proves that it does.

#include "kernels/blas/memory_lock.h"

#include <atomic>
#include <mutex>

// The names that the linker's --wrap asks for.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
void* __real_blas_memory_alloc(int position);
void __real_blas_memory_free(void* buffer);
void* __wrap_blas_memory_alloc(int position);
void __wrap_blas_memory_free(void* buffer);
}
// NOLINTEND(readability-identifier-naming)

namespace {

// OpenBLAS's buffers are global; so must their lock be. Held for a search through 128 slots.
constinit std::mutex buffers_mutex;
constinit std::atomic<int64_t> allocations{0};

}  // namespace

void* __wrap_blas_memory_alloc(int position) {
  const std::lock_guard lock(buffers_mutex);
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __real_blas_memory_alloc(position);
}

void __wrap_blas_memory_free(void* buffer) {
  const std::lock_guard lock(buffers_mutex);
  __real_blas_memory_free(buffer);
}

namespace mezzotint::blas {

int64_t locked_allocations() noexcept { return allocations.load(std::memory_order_relaxed); }

}  // namespace mezzotint::blas
