// A linear of random weights behind a C function, for bench/threads/alternate.py.

#include <cstdint>
#include <memory>
#include <vector>

#include "nn/random_linear.h"

namespace {

struct Call {
  mezzotint::ExecContext ctx;
  mezzotint::Linear linear;
  mezzotint::Tensor x, y;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void* linear_create(int64_t m, int64_t n,
                                                                      int64_t k, int threads) {
  using namespace mezzotint;
  auto call = std::make_unique<Call>(Call{
      .ctx = ExecContext({.threads = threads}),
      .linear = random_linear({.algorithm = "W8A8_DYNAMIC", .n = n, .k = k}, active_isa()),
      .x = Tensor::copy_of<float>(std::vector<float>(static_cast<size_t>(m * k), 0.5f), {m, k}),
      .y = Tensor::allocate(DType::kF32, {m, n})});
  return call.release();
}

extern "C" __attribute__((visibility("default"))) void linear_run(void* handle) {
  using namespace mezzotint;
  auto& call = *static_cast<Call*>(handle);
  const int64_t m = call.x.dim(0), k = call.x.dim(1), n = call.y.dim(1);
  call.linear.run({call.x.raw(), DType::kF32, m, k, k},
                  {call.y.buffer().mutable_data(), DType::kF32, m, n, n}, call.ctx);
}
