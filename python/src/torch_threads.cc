#include "torch_threads.h"

#include <dlfcn.h>
#include <unistd.h>

#include <functional>

namespace mezzotint {
namespace {

using Body = std::function<void()>;

// Runs fn(data) on every thread of a parallel region. libgomp's ABI, which libomp and libiomp5
// share.
using GompParallel = void (*)(void (*fn)(void*), void* data, unsigned threads, unsigned flags);

// Of the OpenMP library that torch itself found, whatever its file is called. Nothing is loaded.
GompParallel gomp_parallel() {
  void* const torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  if (torch == nullptr) return nullptr;
  return reinterpret_cast<GompParallel>(dlsym(torch, "GOMP_parallel"));
}

void run(void* body) { (*static_cast<const Body*>(body))(); }

}  // namespace

ThreadTeam torch_threads() {
  const GompParallel parallel = gomp_parallel();
  if (parallel == nullptr) return {};
  return [parallel, process = getpid()](int threads, const Body& body) {
    // A forked child has none of the threads, and OpenMP would wait for them.
    if (getpid() != process) {
      body();
      return;
    }
    parallel(&run, const_cast<Body*>(&body), static_cast<unsigned>(threads), 0);
  };
}

}  // namespace mezzotint
